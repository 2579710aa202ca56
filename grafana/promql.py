"""PromQL, put together: every figure that more than one panel shows is written once."""

import json

from scenarios import Mode, Scenario

PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

# Left out of rates and times: what looks whether a service is well.
WORK = 'handler!~"/(health|ready|metrics)?"'
# Containers of the stack that bring load or watch it.
NOT_THE_STACK = "k6|grafana|prometheus|cadvisor"


def select(metric: str, mode: Mode, *matchers: str, **labels: str | tuple[str, ...]) -> str:
    """`metric{mode="..."}` with more matchers."""
    return where(metric, f'mode="{mode}"', *matchers, **labels)


def where(metric: str, *matchers: str, **labels: str | tuple[str, ...]) -> str:
    """`metric{...}` with these matchers; a tuple means any of these values."""
    parts = list(matchers)
    for label, value in labels.items():
        if isinstance(value, str):
            parts.append(f"{label}={json.dumps(value)}")
        else:
            parts.append(f"{label}=~{json.dumps('|'.join(value))}")
    return f"{metric}{{{', '.join(parts)}}}"


def rate(selector: str) -> str:
    return f"rate({selector}[$__rate_interval])"


def total(vector: str, *by: str) -> str:
    return f"sum by ({', '.join(by)}) ({vector})" if by else f"sum({vector})"


def quantile(q: float, selector: str, *by: str) -> str:
    """From a histogram: rates of its buckets first, then the quantile; never a mean of quantiles."""
    return f"histogram_quantile({q}, {total(rate(selector), 'le', *by)})"


def or_zero(vector: str, of: str) -> str:
    """`vector`, and 0 for each element of `of` that it lacks."""
    return f"{vector} or 0 * {of}"


def started(metric: str, mode: Mode, scenario: Scenario, *matchers: str) -> str:
    """The request that starts a scenario."""
    return select(metric, mode, *matchers, method=scenario.method, handler=scenario.handler)


def acknowledge(mode: Mode, scenario: Scenario, q: float) -> str:
    return quantile(q, started("http_request_duration_seconds_bucket", mode, scenario))


def complete(mode: Mode, scenario: Scenario, q: float) -> str:
    """Of the slowest effect, where there are several."""
    each = quantile(q, select("workflow_completion_seconds_bucket", mode, scenario=scenario.key), "effect")
    return f"max({each})" if len(scenario.effects) > 1 else each


def effects(mode: Mode, scenario: Scenario, *by: str) -> str:
    return total(rate(select("workflow_completion_seconds_count", mode, scenario=scenario.key)), *by)


def error_ratio(mode: Mode) -> str:
    errors, requests = (f"sum({select(f'service:http_{what}:rate1m', mode)})" for what in ("errors", "requests"))
    return f"{errors} / ({requests} > 0) or 0 * {requests}"


def process(metric: str, mode: Mode) -> str:
    """Of the ten services: others have the same metrics under other jobs."""
    return select(metric, mode, job="services")


def container(metric: str, mode: Mode) -> str:
    """Of this stack's containers alone: cAdvisor sees those of the other, too."""
    return select(
        metric,
        mode,
        'container_label_com_docker_compose_service!=""',
        f'container_label_com_docker_compose_service!~"{NOT_THE_STACK}"',
        container_label_com_docker_compose_project=f"microservices-{mode}",
    )
