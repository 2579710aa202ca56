"""Panels and their places, in the few forms that the boards use."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, text, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueGraphMode,
    DataSourceRef,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    AnnotationQuery,
    DashboardLinkType,
    DataTransformerConfig,
    DynamicConfigValue,
    GridPos,
    Threshold,
    ThresholdsMode,
    VariableOption,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

WIDTH = 24
# Units of Grafana, and one of ours.
SECONDS, PER_SECOND, BYTES, RATIO, COUNT, CORES = "s", "ops", "bytes", "percentunit", "short", "suffix: cores"
# Shades from p50 to p99.
BLUE = ("light-blue", "blue", "dark-blue")
ORANGE = ("light-orange", "orange", "dark-orange")

Filled = TypeVar("Filled", timeseries.Panel, stat.Panel, bargauge.Panel, table.Panel)
Panel: TypeAlias = timeseries.Panel | stat.Panel | bargauge.Panel | table.Panel | text.Panel


@dataclass(frozen=True)
class Query:
    expr: str
    legend: str
    # The variable that holds the data source.
    source: str = "datasource"


def source(variable: str) -> DataSourceRef:
    return DataSourceRef(type_val="prometheus", uid=f"${{{variable}}}")


MIXED = DataSourceRef(type_val="datasource", uid="-- Mixed --")


def _ref(position: int) -> str:
    return chr(ord("A") + position)


def _filled(panel: Filled, title: str, unit: str, description: str, queries: Sequence[Query], *, instant: bool = False) -> Filled:
    panel.title(title).description(description).unit(unit).min(0)
    sources = {query.source for query in queries}
    panel.datasource(source(sources.pop()) if len(sources) == 1 else MIXED)
    for position, query in enumerate(queries):
        target = prometheus.Dataquery().ref_id(_ref(position)).datasource(source(query.source)).expr(query.expr).legend_format(query.legend)
        if isinstance(panel, table.Panel):
            target.format(PromQueryFormat.TABLE)
        panel.with_target(target.instant() if instant else target.range())
    return panel


def lines(title: str, unit: str, description: str, *queries: Query, look_back: str | None = None) -> timeseries.Panel:
    """Figures over time. `look_back` lengthens the window of rates where events are rare."""
    panel = _filled(timeseries.Panel(), title, unit, description, queries)
    panel.draw_style(GraphDrawStyle.LINE).line_width(1).fill_opacity(5)
    panel.show_points(VisibilityMode.AUTO).span_nulls(30_000)
    panel.legend(
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.BOTTOM)
        .calcs(["lastNotNull", "max"])
    )
    panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    if look_back:
        panel.interval(look_back)
    return panel


def shades(panel: timeseries.Panel, **families: tuple[str, ...]) -> timeseries.Panel:
    """Colours the lines `<family> p50`, `p95` and `p99`."""
    for family, colours in families.items():
        for percentile, colour in zip(("p50", "p95", "p99"), colours, strict=True):
            value = {"mode": "fixed", "fixedColor": colour}
            panel.override_by_name(f"{family} {percentile}", [DynamicConfigValue(id_val="color", value=value)])
    return panel


def figure(
    title: str, unit: str, description: str, *queries: Query, bad_from: float | None = None, look_back: str | None = None
) -> stat.Panel:
    """A number that is true now, and its course behind it."""
    panel = _filled(stat.Panel(), title, unit, description, queries)
    panel.graph_mode(BigValueGraphMode.AREA).reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    steps = [Threshold(color="green")]
    if bad_from is not None:
        steps.append(Threshold(value=bad_from, color="red"))
    panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    if look_back:
        panel.interval(look_back)
    return panel


def bars(title: str, unit: str, description: str, *queries: Query) -> bargauge.Panel:
    """One bar for each series, over the shown time."""
    panel = _filled(bargauge.Panel(), title, unit, description, queries, instant=True)
    panel.orientation(VizOrientation.HORIZONTAL).display_mode(BarGaugeDisplayMode.BASIC)
    return panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))


def rows(title: str, unit: str, description: str, *queries: Query) -> table.Panel:
    """A table with a line for each value of the label that the queries share, and a column for each query."""
    panel = _filled(table.Panel(), title, unit, description, queries, instant=True)
    for position, query in enumerate(queries):
        name = DynamicConfigValue(id_val="displayName", value=query.legend)
        panel.override_by_name(f"Value #{_ref(position)}", [name])
    # One line for each value only if nothing else differs.
    panel.with_transformation(DataTransformerConfig(id_val="filterFieldsByName", options={"exclude": {"names": ["Time"]}}))
    return panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))


def note(title: str, words: str) -> text.Panel:
    return text.Panel().title(title).content(words).description(words)


class Span(AnnotationQuery):
    """The times at which an expression is above 0, as one region. The builder lacks two fields of this data source."""

    def to_json(self) -> dict[str, object]:
        return super().to_json() | {"titleFormat": self.name, "step": "5s"}


class _Built(Builder[AnnotationQuery]):
    """What is built already, where a builder is asked for."""

    def __init__(self, built: AnnotationQuery) -> None:
        self._built = built

    def build(self) -> AnnotationQuery:
        return self._built


class Board:
    """A dashboard that is filled from left to right and from top to bottom."""

    def __init__(self, uid: str, title: str, description: str) -> None:
        self.dashboard = dashboard.Dashboard(title).uid(uid).description(description)
        self.dashboard.tags(["microservices"]).timezone("browser").refresh("5s").time("now-15m", "now").readonly()
        link = dashboard.DashboardLink("Boards").type(DashboardLinkType.DASHBOARDS).tags(["microservices"])
        self.dashboard.link(link.keep_time(True))
        self._ids = 0
        self._runs: list[Builder[AnnotationQuery]] = []
        self._x, self._y, self._height = 0, 0, 0

    def _next_id(self) -> int:
        self._ids += 1
        return self._ids

    def source(self, variable: str, label: str, uid: str, title: str) -> None:
        """A data source to choose, and the runs of k6 that it knows of."""
        choice = VariableOption(selected=True, text=title, value=uid)
        self.dashboard.with_variable(dashboard.DatasourceVariable(variable).label(label).type("prometheus").current(choice))
        runs = Span(
            name=f"k6 run ({label})",
            datasource=source(variable),
            enable=True,
            icon_color="purple",
            expr="max(k6_vus{}) > 0",
        )
        self._runs.append(_Built(runs))
        self.dashboard.annotations(self._runs)

    def row(self, title: str) -> None:
        self._end_line()
        place = GridPos(x=0, y=self._y, w=WIDTH, h=1)
        self.dashboard.with_row(dashboard.Row(title).id(self._next_id()).grid_pos(place))
        self._y += 1

    def add(self, panel: Panel, width: int, height: int) -> None:
        if self._x + width > WIDTH:
            self._end_line()
        panel.id(self._next_id()).grid_pos(GridPos(x=self._x, y=self._y, w=width, h=height))
        self.dashboard.with_panel(panel)
        self._x, self._height = self._x + width, max(self._height, height)

    def line(self, height: int, *panels: Panel) -> None:
        """Panels of equal width, side by side."""
        self._end_line()
        for panel in panels:
            self.add(panel, WIDTH // len(panels), height)

    def _end_line(self) -> None:
        self._x, self._y, self._height = 0, self._y + self._height, 0
