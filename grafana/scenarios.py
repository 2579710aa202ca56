"""What the boards need to know about the study: who starts a scenario, who takes part, and what ends it."""

from dataclasses import dataclass
from typing import Literal

Mode = Literal["sync", "async"]
MODES: tuple[Mode, ...] = ("sync", "async")


@dataclass(frozen=True)
class Scenario:
    key: str
    title: str
    # The request that starts it.
    method: str
    handler: str
    # Its final effects: it is complete when all of them are.
    effects: tuple[str, ...]
    # What carries it on from there: paths that are called in sync mode, queues in async mode.
    calls: tuple[str, ...]
    queues: tuple[str, ...]
    # Whether it is started so rarely that a figure needs a longer look back.
    rare: bool = False

    @property
    def name(self) -> str:
        return self.key.upper()


SCENARIOS = (
    Scenario(
        "s1",
        "non-critical task: register, send a welcome e-mail",
        "POST",
        "/register",
        effects=("email",),
        calls=("/send_welcome_email",),
        queues=("user_registered_queue",),
    ),
    Scenario(
        "s2",
        "long-running process: take a payment",
        "POST",
        "/process_payment",
        effects=("payment",),
        calls=(),
        queues=("payment_initiated_queue", "payment_completed_queue"),
    ),
    Scenario(
        "s3",
        "fan-out: update a product",
        "PUT",
        "/products/{id}",
        effects=("search", "cache", "analytics"),
        calls=("/reindex", "/invalidate_cache", "/log_update"),
        queues=("search_product_updates_queue", "cache_product_updates_queue", "analytics_product_updates_queue"),
    ),
    Scenario(
        "s4",
        "processor-bound work: compute a report",
        "POST",
        "/generate_report",
        effects=("report",),
        calls=(),
        queues=("report_jobs_queue",),
        rare=True,
    ),
    Scenario(
        "s5",
        "saga: an order whose payment fails",
        "POST",
        "/create_order",
        effects=("order", "stock"),
        calls=("/reserve_stock", "/process_payment_fail", "/pay_order", "/cancel_payment", "/compensate_stock", "/commit_stock"),
        queues=(
            "order_created_queue",
            "stock_reserved_queue",
            "stock_rejected_queue",
            "inventory_payment_failed_queue",
            "order_payment_failed_queue",
            "inventory_payment_succeeded_queue",
            "order_payment_succeeded_queue",
            "inventory_order_cancelled_queue",
            "payment_order_cancelled_queue",
        ),
    ),
    Scenario(
        "s6",
        "high-throughput ingestion: track clicks",
        "POST",
        "/track_click",
        effects=("click",),
        calls=(),
        queues=("click_tracked_queue",),
    ),
)
