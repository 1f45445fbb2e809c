"""A metric over a whole clip, window by window."""

from latentsync.evaluate.metrics import MetricValue, windows


def measure(metric, pictures, truth) -> dict[str, MetricValue]:
    for numbers in windows(pictures, [(0, len(pictures))]):
        metric.update(numbers, pictures[numbers], truth[numbers])
    return metric.compute()
