"""The board of the campus lab: a row for each stack, with the same panels but for what waits: requests, queues or records."""

from panels import BLUE, BYTES, COUNT, ORANGE, PER_SECOND, SECONDS, Board, Panel, Query, figure, lines, shades
from promql import PERCENTILES, WORK, or_zero, quantile, rate, total, where
from scenarios import CONTRACT

UID = "campus-dashboard"
STACKS = tuple(CONTRACT["campus"])


def build() -> Board:
    words = "Orders of the campus lab over each way to communicate. A stack that does not run has no data."
    board = Board(UID, "Campus lab", words)
    board.source("datasource", "Prometheus", "prometheus-campus", "Prometheus of the campus lab")
    for stack in STACKS:
        name = stack["name"]
        board.row(f"Stack {name}")
        board.line(8, *panels(name, stack["mode"]))
    return board


def panels(stack: str, mode: str) -> list[Panel]:
    def select(metric: str, *matchers: str, **labels: str) -> str:
        return where(metric, f'stack="{stack}"', *matchers, **labels)

    def placed(metric: str) -> str:
        return select(metric, method="POST", handler="/order")

    def ended(metric: str, effect: str = "order") -> str:
        return select(metric, scenario="campus", effect=effect)

    acknowledge, complete = placed("http_request_duration_seconds_bucket"), ended("workflow_completion_seconds_bucket")
    notified = {
        "sync": [Query(total(rate(select("http_requests_total", handler="/send"))), "notified")],
        "async": [Query(total(rate(ended("workflow_completion_seconds_count", "notification"))), "notified")],
        "stream": [],
    }
    failed = total(rate(select("http_requests_total", WORK, 'status=~"5.."')), "service")
    return [
        figure(
            f"{stack}: services up",
            COUNT,
            "Services that answer the scrape. Three are right; one that is stopped or hangs is missing.",
            Query(f"count({select('up', job='services')} > 0)", "services"),
        ),
        shades(
            lines(
                f"{stack}: acknowledge and complete",
                SECONDS,
                "Acknowledge: the answer to POST /order. Complete: from accepting the order to its end. "
                "Over REST both are one. Over a broker a slow inventory shows in the second only.",
                *(Query(quantile(q, acknowledge), f"acknowledge {name}") for name, q in PERCENTILES.items()),
                *(Query(quantile(q, complete), f"complete {name}") for name, q in PERCENTILES.items()),
            ),
            acknowledge=BLUE,
            complete=ORANGE,
        ),
        lines(
            f"{stack}: orders and notifications",
            PER_SECOND,
            "Placed: answers to POST /order by status. Ended: orders by their last status, and notifications. "
            "Ended stays below placed while orders wait.",
            Query(total(rate(placed("http_requests_total")), "status"), "placed, {{status}}"),
            Query(total(rate(ended("workflow_completion_seconds_count")), "outcome"), "ended {{outcome}}"),
            *notified[mode],
        ),
        waiting(stack, select, mode),
        lines(
            f"{stack}: memory",
            BYTES,
            "Resident memory of each service. It should not grow with time.",
            Query(total(select("process_resident_memory_bytes", job="services"), "service"), "{{service}}"),
        ),
        lines(
            f"{stack}: answers 5xx",
            PER_SECOND,
            "Answers of the services with 500 or more. Over REST 502 and 504 are an inventory that is away or slow; 500 is an injected failure.",
            Query(or_zero(failed, total(rate(select("http_requests_total", WORK)), "service")), "{{service}}"),
        ),
    ]


def waiting(stack, select, mode: str) -> Panel:
    if mode == "stream":
        return lines(
            f"{stack}: records by group",
            PER_SECOND,
            "Records that a group has done with, by outcome. A replay is a peak of analytics-group alone.",
            Query(total(rate(select("events_consumed_total")), "queue", "outcome"), "{{queue}} {{outcome}}"),
        )
    if mode == "sync":
        return lines(
            f"{stack}: requests in progress",
            COUNT,
            "Orders that wait for an answer, and the calls between services: the counterpart of a queue, held by the clients.",
            Query(total(select("http_requests_in_progress", 'handler=~"/order|/reserve|/send"'), "handler"), "{{handler}}"),
        )
    return lines(
        f"{stack}: queues",
        COUNT,
        "Ready: waits for a consumer. Unacknowledged: is with one. Stop inventory, and inventory_queue fills; start it, and it drains. "
        "dlq_queue has the dead letters.",
        Query(total(select("rabbitmq_detailed_queue_messages_ready", 'queue!~"retry_.+|unrouted_queue"'), "queue"), "{{queue}} ready"),
        Query(
            total(select("rabbitmq_detailed_queue_messages_unacked", 'queue!~"retry_.+|unrouted_queue"'), "queue"),
            "{{queue}} unacknowledged",
        ),
    )
