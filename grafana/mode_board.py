"""The board of one mode. Both modes have the same panels at the same places; where events are in one, calls are in the other."""

from panels import BLUE, BYTES, CORES, COUNT, ORANGE, PER_SECOND, RATIO, SECONDS, Board, Panel, Query, bars, figure, lines, note, shades
from promql import (
    PERCENTILES,
    WORK,
    acknowledge,
    complete,
    container,
    effects,
    error_ratio,
    or_zero,
    process,
    quantile,
    rate,
    select,
    started,
    total,
)
from scenarios import SCENARIOS, Mode, Scenario

UIDS = {"sync": "sync-microservices-dashboard", "async": "async-microservices-dashboard"}
TITLES = {"sync": "Synchronous microservices (HTTP)", "async": "Event-driven microservices (RabbitMQ)"}
# Where an event counts for a few per minute only.
RARE = "1m"
# The processor time of a process is read often and moves slowly.
STEADY = "30s"


def build(mode: Mode) -> Board:
    words = "The six scenarios in this mode. The other mode's board has the same panels at the same places."
    board = Board(UIDS[mode], TITLES[mode], words)
    board.source("datasource", "Prometheus", f"prometheus-{mode}", f"Prometheus {mode}")
    overview(board, mode)
    for scenario in SCENARIOS:
        board.row(f"{scenario.name} {scenario.title}")
        scenario_panels(board, mode, scenario)
    board.row("Delivery and failures")
    board.line(7, *(outbox_and_letters() if mode == "async" else failures()))
    board.row("Database")
    board.line(7, *database(mode))
    board.row("Processes and containers")
    board.line(8, *resources(mode))
    board.row("Load (k6)")
    board.line(8, *load())
    if mode == "async":
        board.row("Broker")
        board.line(7, *broker())
    return board


# --- the whole -----------------------------------------------------------------------------------------------------


def overview(board: Board, mode: Mode) -> None:
    cpu, memory = "process_cpu_seconds_total", "process_resident_memory_bytes"
    board.row("Overview")
    board.line(
        5,
        figure(
            "Total Request Rate (All Services)",
            PER_SECOND,
            "HTTP requests of the last minute, calls between services included: the same load makes more of them in sync mode. "
            "Checks of health and scrapes are not counted.",
            Query(total(select("service:http_requests:rate1m", mode)), "requests"),
        ),
        figure(
            "Overall Error Rate (5xx)",
            RATIO,
            "Share of requests of the last minute that were answered 5xx. Should be 0: the 400 that S5 expects is no error.",
            Query(error_ratio(mode), "errors"),
            bad_from=0.001,
        ),
        figure(
            "Total System CPU Usage",
            CORES,
            "Processor time of the ten services, and of all of the stack's containers: services, gateway, database, broker. "
            "Load and monitoring are not counted. The second figure needs cAdvisor.",
            Query(total(rate(process(cpu, mode))), "services"),
            Query(total(rate(container("container_cpu_usage_seconds_total", mode))), "containers"),
            look_back=STEADY,
        ),
        figure(
            "Total System Memory Usage",
            BYTES,
            "Resident memory of the ten services, and the working set of all of the stack's containers. The second figure needs cAdvisor.",
            Query(total(process(memory, mode)), "services"),
            Query(total(container("container_memory_working_set_bytes", mode)), "containers"),
        ),
        figure(
            "Services up",
            COUNT,
            "Services with at least one instance that answers the scrape. Ten are right.",
            Query(f"count(sum by (service) ({select('up', mode, job='services')}) > 0)", "services"),
        ),
        figure(
            "Alerts firing",
            COUNT,
            "Alerts of prometheus/alerts.yml that fire. Which: see Prometheus, page Alerts.",
            Query(f'count(ALERTS{{alertstate="firing"}}) or 0 * {total(select("up", mode))}', "alerts"),
            bad_from=1,
        ),
    )
    counted, failed = (select("http_requests_total", mode, WORK, *status) for status in ((), ('status=~"5.."',)))
    board.line(
        8,
        lines(
            "Request Rate per Service (RPS)",
            PER_SECOND,
            "HTTP requests by service. In async mode consumers work without requests: look at the queues below.",
            Query(total(rate(counted), "service"), "{{service}}"),
        ),
        lines(
            "Error Rate per Service (HTTP 5xx)",
            PER_SECOND,
            "Answers 5xx by service. 503 says that something is away or full and nothing was accepted; 500 is a defect.",
            Query(or_zero(total(rate(failed), "service"), total(rate(counted), "service")), "{{service}}"),
        ),
        lines(
            "P95 Latency per Service",
            SECONDS,
            "95 of 100 requests of the service are answered within this time, all its paths together. "
            "The waits of S1, S2 and S4 show here in sync mode only.",
            Query(quantile(0.95, select("http_request_duration_seconds_bucket", mode, WORK), "service"), "{{service}}"),
        ),
    )
    board.line(
        8,
        lines(
            "Acknowledge by scenario (p95)",
            SECONDS,
            "Time to the answer of the request that starts the scenario, over the last minute. In async mode all should be milliseconds.",
            Query(select("scenario:acknowledge_seconds:p95_1m", mode), "{{scenario}}"),
        ),
        lines(
            "Complete by scenario (p95)",
            SECONDS,
            "Time from accepting the request to the end of the slowest final effect, over the last minute. "
            "Grows in async mode when consumers fall behind.",
            Query(select("scenario:complete_seconds:p95_1m", mode), "{{scenario}}"),
        ),
    )


# --- a scenario ----------------------------------------------------------------------------------------------------


def scenario_panels(board: Board, mode: Mode, scenario: Scenario) -> None:
    look_back = RARE if scenario.rare else None
    several = len(scenario.effects) > 1
    slowest = (
        f"Several effects end it ({', '.join(scenario.effects)}): the percentile of the slowest of them is shown, "
        "which is at most the percentile of whole workflows."
        if several
        else f"It ends with one effect: {scenario.effects[0]}."
    )
    board.add(
        shades(
            lines(
                f"{scenario.name} Acknowledge and complete",
                SECONDS,
                f"Acknowledge: the answer to {scenario.method} {scenario.handler}. Complete: from accepting it to the final effect. "
                f"In sync mode the answer waits for the effect; in async mode it comes long before. {slowest}",
                *(Query(acknowledge(mode, scenario, q), f"acknowledge {name}") for name, q in PERCENTILES.items()),
                *(Query(complete(mode, scenario, q), f"complete {name}") for name, q in PERCENTILES.items()),
                look_back=look_back,
            ),
            acknowledge=BLUE,
            complete=ORANGE,
        ),
        12,
        8,
    )
    board.add(
        lines(
            f"{scenario.name} Rate",
            PER_SECOND,
            "Requests that start it, and effects that end it. Effects that stay below requests for long: work is waiting.",
            Query(total(rate(started("http_requests_total", mode, scenario))), "started"),
            Query(effects(mode, scenario, "effect"), "{{effect}}"),
            look_back=look_back,
        ),
        6,
        8,
    )
    board.add(
        lines(
            f"{scenario.name} Outcome",
            PER_SECOND,
            "Answers by status, and effects by their outcome. " + outcome_hint(scenario),
            Query(total(rate(started("http_requests_total", mode, scenario)), "status"), "answer {{status}}"),
            Query(effects(mode, scenario, "effect", "outcome"), "{{effect}}: {{outcome}}"),
            look_back=look_back,
        ),
        6,
        8,
    )
    if mode == "async":
        board.line(7, *queue_panels(scenario, look_back))
    else:
        call_panels(board, scenario, look_back)
    if scenario.key == "s4":
        board.line(7, *report_panels(mode))
    if scenario.key == "s5":
        board.line(7, *stock_panels(mode, scenario))


def outcome_hint(scenario: Scenario) -> str:
    hints = {
        "s1": "409 is an address that is registered already.",
        "s3": "Outdated: a newer version was there before; right when updates overtake each other.",
        "s4": "503 in sync mode: no worker became free in time.",
        "s5": "Sync answers 400 and async 202; the order ends failed and the stock released as long as every payment is refused.",
    }
    return hints.get(scenario.key, "Anything but success needs a look.")


def queue_panels(scenario: Scenario, look_back: str | None) -> list[Panel]:
    def broker_metric(name: str) -> str:
        return select(f"rabbitmq_detailed_{name}", "async", queue=scenario.queues)

    return [
        lines(
            f"{scenario.name} Queue: ready and unacknowledged",
            COUNT,
            "Ready: waits for a consumer. Unacknowledged: is with one. Ready that keeps growing means more comes in than gets done.",
            Query(total(broker_metric("queue_messages_ready"), "queue"), "{{queue}} ready"),
            Query(total(broker_metric("queue_messages_unacked"), "queue"), "{{queue}} unacknowledged"),
        ),
        lines(
            f"{scenario.name} Queue: publish, deliver, acknowledge",
            PER_SECOND,
            "What comes into the queue, goes to consumers, and is done. Deliver above acknowledge for long: things are delivered again.",
            Query(total(rate(broker_metric("queue_messages_published_total")), "queue"), "{{queue}} publish"),
            Query(total(rate(broker_metric("channel_messages_delivered_ack_total")), "queue"), "{{queue}} deliver"),
            Query(total(rate(broker_metric("channel_messages_acked_total")), "queue"), "{{queue}} acknowledge"),
            look_back=look_back,
        ),
        lines(
            f"{scenario.name} Queue: age of events (p95)",
            SECONDS,
            "From publishing an event to having handled it. The broker does not tell the age of what still waits: "
            "while a consumer handles nothing there is no figure.",
            Query(quantile(0.95, select("event_age_seconds_bucket", "async", queue=scenario.queues), "queue"), "{{queue}}"),
            look_back=look_back,
        ),
        lines(
            f"{scenario.name} Queue: consumers",
            COUNT,
            "Consumers that are subscribed: one for each replica of the service. With 0 the queue only grows.",
            Query(total(broker_metric("queue_consumers"), "queue"), "{{queue}}"),
        ),
    ]


def call_panels(board: Board, scenario: Scenario, look_back: str | None) -> None:
    """In the place of the queues."""

    def called(metric: str, *matchers: str) -> str:
        return select(metric, "sync", *matchers, handler=scenario.calls)

    in_progress = select("http_requests_in_progress", "sync", handler=(scenario.handler, *scenario.calls))
    waiting = lines(
        f"{scenario.name} Requests in progress",
        COUNT,
        "Who waits for an answer, at the door and between services: the counterpart of a queue, but clients hold it.",
        Query(total(in_progress, "handler"), "{{handler}}"),
    )
    if not scenario.calls:
        words = "No other service takes part: the work is done within the request."
        board.add(waiting, 6, 7)
        board.add(note(f"{scenario.name} Calls", words), 18, 7)
        return
    board.line(
        7,
        waiting,
        lines(
            f"{scenario.name} Calls",
            PER_SECOND,
            "Calls between the services of the scenario, by path.",
            Query(total(rate(called("http_requests_total")), "handler"), "{{handler}}"),
            look_back=look_back,
        ),
        lines(
            f"{scenario.name} Calls: time (p95)",
            SECONDS,
            "How long the called service takes. The caller's answer waits for all of these, one after the other.",
            Query(quantile(0.95, called("http_request_duration_seconds_bucket"), "handler"), "{{handler}}"),
            look_back=look_back,
        ),
        lines(
            f"{scenario.name} Calls: not 2xx",
            PER_SECOND,
            "Calls that were answered with an error. Should be 0"
            + (", but for the payments that are refused: S5 is about them." if scenario.key == "s5" else "."),
            Query(
                or_zero(
                    total(rate(called("http_requests_total", 'status!~"2.."')), "handler"),
                    total(rate(called("http_requests_total")), "handler"),
                ),
                "{{handler}}",
            ),
            look_back=look_back,
        ),
    )


def report_panels(mode: Mode) -> list[Panel]:
    others = select("http_request_duration_seconds_bucket", mode, 'handler!="/generate_report"', service="reportservice")
    return [
        lines(
            "S4 Workers",
            COUNT,
            "Threads that compute, and how many there are. All busy: reports wait, in async mode in the queue, "
            "in sync mode with their client.",
            Query(total(select("report_workers_busy", mode)), "busy"),
            Query(total(select("report_workers", mode)), "there are"),
        ),
        lines(
            "S4 CPU of reportservice",
            CORES,
            "Processor time of the service: a core for each busy worker, unless its container is limited to less.",
            Query(total(rate(select("process_cpu_seconds_total", mode, service="reportservice", job="services"))), "reportservice"),
            look_back=STEADY,
        ),
        lines(
            "S4 Other answers meanwhile (p95)",
            SECONDS,
            "Every other path of reportservice. Must stay under 100 ms while reports are computed.",
            Query(quantile(0.95, others), "other paths"),
        ),
    ]


def stock_panels(mode: Mode, scenario: Scenario) -> list[Panel]:
    ended = select("workflow_completion_seconds_count", mode, scenario=scenario.key)
    return [
        lines(
            "S5 Reserved stock",
            COUNT,
            "Units that are held for orders which have not ended. Must come back to where it was when the load ends.",
            # Every replica looks at the same table.
            Query(f"max by (state) ({select('stock_units', mode, state='reserved')})", "{{state}}"),
        ),
        bars(
            "S5 Outcomes in the shown time",
            COUNT,
            "How orders ended and what became of their stock. Refused payments: as many stocks released as orders failed.",
            Query(f"sum by (effect, outcome) (increase({ended}[$__range]))", "{{effect}}: {{outcome}}"),
        ),
    ]


# --- below the scenarios -------------------------------------------------------------------------------------------


def outbox_and_letters() -> list[Panel]:
    consumed = total(rate(select("events_consumed_total", "async")), "queue")
    retried = total(rate(select("events_consumed_total", "async", outcome="retry")), "queue")
    return [
        lines(
            "Outbox: events waiting",
            COUNT,
            "Events that are committed and not yet confirmed by the broker: 0 or a few. They grow while the broker is down. A line with a "
            "destination counts the events for a queue or exchange that takes none.",
            # All replicas report the same table, so max, not sum.
            Query(f"max by (service) ({select('outbox_pending', 'async')})", "{{service}}"),
            Query(f"max by (service, destination) ({select('outbox_waiting', 'async')})", "{{service}} for {{destination}}"),
        ),
        lines(
            "Outbox: age of the oldest",
            SECONDS,
            "How long the oldest of them waits. An alert fires over a minute.",
            Query(f"max by (service) ({select('outbox_oldest_seconds', 'async')})", "{{service}}"),
        ),
        lines(
            "Retries",
            PER_SECOND,
            "Events whose handler failed and that are tried again after 1, 10, then 60 s. Should be 0.",
            Query(or_zero(retried, consumed), "{{queue}}"),
        ),
        lines(
            "Dead letters",
            COUNT,
            "Events that were set aside, by the queue that they come from. Should be 0: `./study dlq show QUEUE` tells the reason.",
            Query(select("queue:dead_letters", "async"), "{{queue}}"),
        ),
    ]


def failures() -> list[Panel]:
    counted = select("http_requests_total", "sync", WORK)

    def answers(status: str) -> str:
        of_status = select("http_requests_total", "sync", WORK, f'status=~"{status}"')
        return or_zero(total(rate(of_status), "service"), total(rate(counted), "service"))

    return [
        lines(
            "Requests in progress",
            COUNT,
            "Requests that every service works on or waits with. Grows along the chain of calls when the last one is slow.",
            Query(total(select("http_requests_in_progress", "sync", WORK), "service"), "{{service}}"),
        ),
        lines(
            "P99 Latency per Service",
            SECONDS,
            "The slowest requests of each service: a call that times out shows here first.",
            Query(quantile(0.99, select("http_request_duration_seconds_bucket", "sync", WORK), "service"), "{{service}}"),
        ),
        lines(
            "Answers 503",
            PER_SECOND,
            "Refused, because something was away or full: nothing was accepted, the client may try again. Should be 0.",
            Query(answers("503"), "{{service}}"),
        ),
        lines(
            "Answers 4xx",
            PER_SECOND,
            "Of orderservice and paymentservice by design: S5's orders fail because their payments are refused.",
            Query(answers("4.."), "{{service}}"),
        ),
    ]


def database(mode: Mode) -> list[Panel]:
    return [
        lines(
            "Database connections in use",
            COUNT,
            "Connections that are lent, by service, and the most that its pool may have. At the limit requests wait, and after 2 s fail.",
            Query(total(select("db_connections", mode, state="used", pool="requests"), "service"), "{{service}} used"),
            Query(f"max({select('db_connections_max', mode, pool='requests')})", "most of each instance"),
        ),
        lines(
            "Database: wait for a connection (p95)",
            SECONDS,
            "How long work waits for a connection of the pool. Should be far below a millisecond; "
            "else the pool is too small or the database too slow.",
            Query(quantile(0.95, select("db_acquire_seconds_bucket", mode, pool="requests"), "service"), "{{service}}"),
        ),
        lines(
            "Database: time of transactions (p95)",
            SECONDS,
            "From begin to commit: what a commit to disk costs, and waits for locks.",
            Query(quantile(0.95, select("db_transaction_seconds_bucket", mode), "service"), "{{service}}"),
        ),
    ]


def resources(mode: Mode) -> list[Panel]:
    name = "container_label_com_docker_compose_service"
    label = f"{{{{{name}}}}}"
    return [
        lines(
            "CPU per Service",
            CORES,
            "Processor time of the services' own processes, all replicas.",
            Query(total(rate(process("process_cpu_seconds_total", mode)), "service"), "{{service}}"),
            look_back=STEADY,
        ),
        lines(
            "Memory per Service",
            BYTES,
            "Resident memory of the services' own processes, all replicas. Should not grow with time.",
            Query(total(process("process_resident_memory_bytes", mode), "service"), "{{service}}"),
        ),
        lines(
            "CPU per Container",
            CORES,
            "Processor time by container of this stack, database and broker included. Needs cAdvisor.",
            Query(total(rate(container("container_cpu_usage_seconds_total", mode)), name), label),
        ),
        lines(
            "Memory per Container",
            BYTES,
            "Working set by container of this stack. A container that reaches its limit is killed. Needs cAdvisor.",
            Query(total(container("container_memory_working_set_bytes", mode), name), label),
        ),
    ]


def load() -> list[Panel]:
    # k6 knows no mode: each stack's load is in its own Prometheus.
    done, dropped = total(rate("k6_iterations_total{}")), total(rate("k6_dropped_iterations_total{}"))
    return [
        lines(
            "Offered and achieved rate",
            PER_SECOND,
            "Offered: iterations that k6 ended or had to drop. Achieved: iterations that ended. Apart: not all of the load came about. "
            "In closed load users wait for their answer, so slow answers lower both.",
            Query(f"{done} + ({dropped} or 0 * {done})", "offered"),
            Query(done, "achieved"),
            Query(f"{dropped} or 0 * {done}", "dropped"),
        ),
        lines(
            "Requests by scenario",
            PER_SECOND,
            "Requests that k6 sent to start each scenario.",
            Query(total(rate('k6_http_reqs_total{step="acknowledge"}'), "scenario"), "{{scenario}}"),
        ),
        lines(
            "Acknowledge as k6 sees it",
            SECONDS,
            "p95 since the run began, network included: what the client waits. Compare with the services' own figure.",
            Query('max by (scenario) (k6_http_req_duration_p95{step="acknowledge"})', "{{scenario}}"),
        ),
        lines(
            "Virtual users",
            COUNT,
            "Users at work. At the most that are allowed, the load generator is the limit.",
            Query("max(k6_vus{})", "at work"),
            Query("max(k6_vus_max{})", "ready"),
        ),
    ]


def broker() -> list[Panel]:
    def rabbit(name: str, *matchers: str) -> str:
        return select(f"rabbitmq_{name}", "async", *matchers)

    duplicates = total(rate(select("events_consumed_total", "async", outcome="duplicate")), "queue")
    return [
        lines(
            "Events published",
            PER_SECOND,
            "Events that services handed to the broker, by outcome. Failed: not confirmed; the outbox sends them again.",
            Query(total(rate(select("events_published_total", "async")), "event", "outcome"), "{{event}} {{outcome}}"),
        ),
        lines(
            "Duplicates recognised",
            PER_SECOND,
            "Events that came a second time and changed nothing. Normal after a crash or a lost connection.",
            Query(or_zero(duplicates, total(rate(select("events_consumed_total", "async")), "queue")), "{{queue}}"),
        ),
        lines(
            "Waiting for a retry, and unrouted",
            COUNT,
            "Delay queues, and the queue for what found none. Should be 0.",
            Query(total(rabbit("detailed_queue_messages", 'queue=~"retry_.+|unrouted_queue"'), "queue"), "{{queue}}"),
        ),
        lines(
            "Broker memory",
            BYTES,
            "Of RabbitMQ's process, and the limit at which it blocks publishers.",
            Query(total(rabbit("process_resident_memory_bytes")), "used"),
            Query(total(rabbit("resident_memory_limit_bytes")), "blocks at"),
        ),
    ]
