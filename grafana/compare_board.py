"""Both modes in one board, each from its own Prometheus."""

from collections.abc import Callable

from mode_board import RARE, STEADY
from panels import BLUE, BYTES, CORES, ORANGE, PER_SECOND, RATIO, SECONDS, Board, Panel, Query, figure, lines, rows, shades
from promql import PERCENTILES, acknowledge, complete, container, effects, error_ratio, process, rate, select, started, total
from scenarios import MODES, SCENARIOS, Mode, Scenario

UID = "compare-microservices-dashboard"


def build() -> Board:
    board = Board(UID, "compare", "Sync and async side by side, from the Prometheus servers of both stacks.")
    for mode in MODES:
        board.source(mode, mode, f"prometheus-{mode}", f"Prometheus {mode}")
    overview(board)
    for scenario in SCENARIOS:
        board.row(f"{scenario.name} {scenario.title}")
        board.line(8, *scenario_panels(scenario))
    return board


def both(expression: Callable[[Mode], str], legend: str = "{mode}") -> list[Query]:
    """The same figure of both modes; `expression` makes it for one."""
    return [Query(expression(mode), legend.format(mode=mode), source=mode) for mode in MODES]


def overview(board: Board) -> None:
    board.row("Overview")
    board.line(
        5,
        figure(
            "Total Request Rate (All Services)",
            PER_SECOND,
            "HTTP requests of the last minute. Calls between services count: the same load makes more of them in sync mode.",
            *both(lambda mode: total(select("service:http_requests:rate1m", mode))),
        ),
        figure(
            "Overall Error Rate (5xx)",
            RATIO,
            "Share of requests of the last minute that were answered 5xx. Should be 0 in both.",
            *both(error_ratio),
            bad_from=0.001,
        ),
        figure(
            "Total System CPU Usage",
            CORES,
            "Processor time of the ten services, and of all of the stack's containers, where cAdvisor runs: what the broker costs, too.",
            *both(lambda mode: total(rate(process("process_cpu_seconds_total", mode))), "{mode} services"),
            *both(lambda mode: total(rate(container("container_cpu_usage_seconds_total", mode))), "{mode} containers"),
            look_back=STEADY,
        ),
        figure(
            "Total System Memory Usage",
            BYTES,
            "Resident memory of the ten services, and the working set of all of the stack's containers, where cAdvisor runs.",
            *both(lambda mode: total(process("process_resident_memory_bytes", mode)), "{mode} services"),
            *both(lambda mode: total(container("container_memory_working_set_bytes", mode)), "{mode} containers"),
        ),
    )
    columns = [
        Query(over_range(what, mode, q), f"{what} {name} {mode}", source=mode)
        for what in ("acknowledge", "complete")
        for name, q in PERCENTILES.items()
        if name != "p99"
        for mode in MODES
    ]
    board.line(
        9,
        rows(
            "By scenario, over the shown time",
            SECONDS,
            "Set the time to a run of k6. Async should acknowledge sooner; that it also completes sooner is not to be expected. "
            "Where several effects end a scenario, the slowest counts.",
            *columns,
        ),
    )


def over_range(what: str, mode: Mode, q: float) -> str:
    """Of all that happened in the shown time: the mean rates of the buckets, then the quantile."""
    prefix, by = ("scenario", "scenario, le") if what == "acknowledge" else ("effect", "scenario, effect, le")
    buckets = f"avg_over_time({select(f'{prefix}:{what}_seconds_bucket:rate1m', mode)}[$__range])"
    each = f"histogram_quantile({q}, sum by ({by}) ({buckets}))"
    return each if what == "acknowledge" else f"max by (scenario) ({each})"


def scenario_panels(scenario: Scenario) -> list[Panel]:
    look_back = RARE if scenario.rare else None

    def percentiles(figure_of: Callable[[Mode, Scenario, float], str]) -> list[Query]:
        return [Query(figure_of(mode, scenario, q), f"{mode} {name}", source=mode) for mode in MODES for name, q in PERCENTILES.items()]

    colours = {"sync": BLUE, "async": ORANGE}
    return [
        shades(
            lines(
                f"{scenario.name} Acknowledge",
                SECONDS,
                f"The answer to {scenario.method} {scenario.handler}. The gap between the modes is what the client no longer waits for.",
                *percentiles(acknowledge),
                look_back=look_back,
            ),
            **colours,
        ),
        shades(
            lines(
                f"{scenario.name} Complete",
                SECONDS,
                "From accepting the request to the end of its slowest final effect. A growing line in async mode: consumers fall behind.",
                *percentiles(complete),
                look_back=look_back,
            ),
            **colours,
        ),
        lines(
            f"{scenario.name} Rate",
            PER_SECOND,
            "Started and completed, in both modes. Figures compare only where as much is started. "
            "In closed load sync starts less, because its users wait.",
            *both(lambda mode: total(rate(started("http_requests_total", mode, scenario))), "{mode} started"),
            *both(lambda mode: f"min({effects(mode, scenario, 'effect')})", "{mode} completed"),
            look_back=look_back,
        ),
    ]
