"""Metrics, read by Prometheus' own parser."""

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


def samples(page: str) -> Iterator[Sample]:
    """The samples of a page of metrics."""
    for family in text_string_to_metric_families(page):
        yield from family.samples


def total(page: str, name: str, **labels: str) -> float:
    """The sum of the samples with that name and those labels; 0 where there are none."""
    return sum(
        sample.value
        for sample in samples(page)
        if sample.name == name and labels.items() <= sample.labels.items()
    )
