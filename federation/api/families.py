"""Prometheus families made at once from their values.

Input: values by labels. Output: families for a collector.
"""

from collections.abc import Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

Values = Mapping[tuple[str, ...], float]


def gauge(name: str, told: str, values: Values, *labels: str) -> GaugeMetricFamily:
    """Return a gauge."""
    family = GaugeMetricFamily(name, told, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def counter(name: str, told: str, values: Values, *labels: str) -> CounterMetricFamily:
    """Return a counter."""
    family = CounterMetricFamily(name, told, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
