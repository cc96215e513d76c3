"""GPUs as an exporter of metrics tells them: NVIDIA's DCGM exporter, or Triton itself.

Input: a page of Prometheus text, bounded in size and time. Output: devices with their use and
health, by UUID. An exporter that fails or hangs leaves the last picture for a moment; then nothing
is known of what devices do.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from edge_agent.policy.device_health import SILENCE_S, HealthRecords
from edge_agent.policy.metric_maps import MetricMap, Sample, Scraped, devices_of
from federation.contract.capacity import Capacity, Device
from federation.runtime.clock import Clock

log = logging.getLogger(__name__)

DEADLINE_S = 5.0
MAX_BYTES = 4 << 20
_PIECE = 1 << 16


class ExporterInventory:
    """Scrapes one page."""

    def __init__(self, url: str, metric_map: MetricMap, *, source: str, clock: Clock) -> None:
        self._url = url
        self._map = metric_map
        self._source = source
        self._clock = clock
        self._records = HealthRecords()
        self._devices: tuple[Device, ...] = ()
        self._names: dict[str, str] = {}
        self._seen_s = clock.monotonic_s()
        self._told = ""

    def __repr__(self) -> str:
        return f"ExporterInventory({self._source}, {self._url}, {len(self._devices)} devices)"

    @property
    def names(self) -> Mapping[str, str]:
        """Return the UUID of each GPU by its PCI bus id: of one machine, so not of several."""
        return self._names

    async def read(self) -> Capacity:
        """Return the devices that the page tells of; never raises."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                page = await self._fetch()
                scraped = await asyncio.to_thread(self._parse, page)
        except TimeoutError:
            return self._without(f"{self._url} did not answer within {DEADLINE_S:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return self._without(f"{self._url} cannot be read: {_one_line(error)}")
        except (ValueError, IndexError) as error:  # the parser of the text raises both
            return self._without(f"{self._url} shows no metrics: {_one_line(error)}")
        self._told, self._seen_s = "", self._clock.monotonic_s()
        self._devices = tuple(self._judged(scraped))
        self._names = _names(scraped)
        return Capacity(devices=self._devices)

    async def _fetch(self) -> str:
        """Return the page; raises ValueError if it is too long or none."""
        async with (
            aiohttp.ClientSession(trust_env=False) as session,
            session.get(self._url) as response,
        ):
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            page = bytearray()
            async for piece in response.content.iter_chunked(_PIECE):
                page += piece
                if len(page) > MAX_BYTES:
                    raise ValueError(f"more than {MAX_BYTES >> 20} MiB")
        return page.decode("utf-8", "replace")

    def _parse(self, page: str) -> list[Scraped]:
        """Return the page's devices; raises ValueError."""
        wanted = {metric.name for metric in self._map.metrics}
        lines = [line for line in page.splitlines() if _name(line) in wanted]
        if not lines and "# TYPE" not in page:
            raise ValueError("no Prometheus text")
        return devices_of(_samples("\n".join(lines) + "\n"), self._map, self._source)

    def _judged(self, scraped: list[Scraped]) -> Iterator[Device]:
        now_s = self._clock.monotonic_s()
        for one in scraped:
            health = self._records.judge(one.device.id, one.signals, now_s)
            yield replace(one.device, healthy=health.healthy, reason=health.reason)

    def _without(self, reason: str) -> Capacity:
        """Return the last picture while it is fresh; then devices whose use nobody knows."""
        if reason != self._told:
            self._told = reason
            log.warning("%s", reason)
        age_s = self._clock.monotonic_s() - self._seen_s
        devices = self._devices
        if age_s > SILENCE_S:
            devices = tuple(replace(device, use=None) for device in devices)
        return Capacity(devices=devices, age_s=age_s, reason=reason)


def _name(line: str) -> str:
    """Return the name of the metric that a line of Prometheus text tells a value of."""
    return line.partition("{")[0].partition(" ")[0]


def _samples(text: str) -> Iterator[Sample]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield Sample(sample.name, sample.labels, sample.value)


def _names(scraped: list[Scraped]) -> dict[str, str]:
    """Return UUIDs by bus id; a bus id that several machines have tells nothing."""
    places = [one.bus_id for one in scraped]
    return {p: one.device.id for p, one in zip(places, scraped, strict=True) if _once(p, places)}


def _once(place: str, places: list[str]) -> bool:
    return bool(place) and places.count(place) == 1


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
