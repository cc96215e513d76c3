"""NVIDIA GPUs of this machine, by the driver's management library (package nvidia-ml-py).

Input: the driver. Output: one Device per GPU, or per MIG instance where a GPU is cut into such.
Calls into the driver may hang on a sick GPU: they run in a thread of their own with a deadline, and
while one hangs the last answer counts, its devices marked unhealthy.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType

from federation.contract.capacity import Capacity, Device

log = logging.getLogger(__name__)

SOURCE = "nvml"
DEADLINE_S = 5.0
_MIB = 1 << 20


class NvmlInventory:
    """Reads NVML; a machine without a driver simply has no devices."""

    def __init__(self, *, library: ModuleType | None = None) -> None:
        self._library = library or _import_library()
        self._devices: tuple[Device, ...] = ()
        self._hanging: asyncio.Future[tuple[Device, ...]] | None = None
        self._told = ""

    def __repr__(self) -> str:
        return f"NvmlInventory({len(self._devices)} devices{', hanging' if self._hanging else ''})"

    async def read(self) -> Capacity:
        """Return the devices seen now; never raises."""
        if self._library is None:
            return Capacity()
        if self._hanging is None or self._hanging.done():
            self._hanging = _in_daemon_thread(self._library)
        try:
            async with asyncio.timeout(DEADLINE_S):
                devices = await asyncio.shield(self._hanging)
        except TimeoutError:
            reason = f"the driver did not answer within {DEADLINE_S:.0f} seconds"
            self._tell(reason)
            sick = (replace(d, healthy=False, reason=reason) for d in self._devices)
            return Capacity(devices=tuple(sick), reason=reason)
        except self._library.NVMLError as error:
            self._tell(f"no NVIDIA GPU can be seen: {error}")
            devices = ()
        self._hanging = None
        self._devices = devices
        return Capacity(devices=devices)

    def _tell(self, what: str) -> None:
        if what != self._told:
            self._told = what
            log.info("%s", what)


def _import_library() -> ModuleType | None:
    try:
        import pynvml
    except ImportError:
        return None
    library: ModuleType = pynvml
    return library


def _in_daemon_thread(library: ModuleType) -> "asyncio.Future[tuple[Device, ...]]":
    """Run `_look` in a thread that does not hold up the end of the process if it hangs."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[tuple[Device, ...]] = loop.create_future()

    def settle(devices: tuple[Device, ...], error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(devices)

    def work() -> None:
        devices: tuple[Device, ...] = ()
        problem: BaseException | None = None
        try:
            devices = _look(library)
        except library.NVMLError as error:
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
            loop.call_soon_threadsafe(settle, devices, problem)

    threading.Thread(target=work, name="nvml", daemon=True).start()
    return future


def _look(library: ModuleType) -> tuple[Device, ...]:
    library.nvmlInit()
    try:
        return tuple(_devices(library))
    finally:
        library.nvmlShutdown()


def _devices(library: ModuleType) -> Iterator[Device]:
    for index in range(library.nvmlDeviceGetCount()):
        gpu = library.nvmlDeviceGetHandleByIndex(index)
        product = _text(library.nvmlDeviceGetName(gpu)).removeprefix("NVIDIA ")
        instances = list(_mig_instances(library, gpu, product))
        if instances:
            yield from instances
            continue
        yield Device(
            id=_text(library.nvmlDeviceGetUUID(gpu)),
            vendor="nvidia",
            product=product,
            memory_mib=library.nvmlDeviceGetMemoryInfo(gpu).total // _MIB,
            source=SOURCE,
        )


def _mig_instances(library: ModuleType, gpu: object, product: str) -> Iterator[Device]:
    try:
        mode, _ = library.nvmlDeviceGetMigMode(gpu)
    except library.NVMLError:  # this GPU knows no MIG
        return
    if mode != library.NVML_DEVICE_MIG_ENABLE:
        return
    for index in range(library.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            instance = library.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
        except library.NVMLError:  # this place is empty
            continue
        memory_mib = library.nvmlDeviceGetAttributes(instance).memorySizeMB
        yield Device(
            id=_text(library.nvmlDeviceGetUUID(instance)),
            vendor="nvidia",
            product=f"{product}-MIG",
            memory_mib=memory_mib,
            source=SOURCE,
        )


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
