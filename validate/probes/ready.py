"""Cases made ready to run: by the plain kernel, by one of the ways of a probe, or by an adapter."""

from dataclasses import replace

from validate import adapters
from validate.probes.base import Built, Case, Probe


class UnavailableError(Exception):
    """This machine or build does not have the kernel."""


def ready(probe: Probe, case: Case, bench) -> Built:
    """Return a case ready to run.

    Raises
    ------
    UnavailableError
        If this machine or build cannot run the kernel that a variant names; the message says why.
    """
    if why := probe.unavailable(case, bench):
        raise UnavailableError(why)
    if case.kernel in adapters.ADAPTERS:
        return adapted(probe, case, bench)
    built, ways = probe.build(case, bench), probe.ways(bench.kind)
    if case.kernel:
        if case.kernel not in (*ways, *probe.rivals(bench.kind)):
            raise UnavailableError(f"{case.kernel} is no kernel for {bench.kind}")
        try:
            return _tried(probe.by(built, case.kernel))
        except NotImplementedError as error:
            raise UnavailableError(str(error).partition("\n")[0]) from None
    if case.prefers not in ways:
        return built
    for way in (case.prefers, *(each for each in ways if each != case.prefers)):
        try:
            return _tried(probe.by(built, way))
        except Exception as error:  # the next way may take these sizes
            if not is_missing(error):
                raise
    return built


def _tried(built: Built) -> Built:
    """Return a built case after one call, which shows whether this machine has its kernel."""
    with built.within():
        built.call(*built.sets[0])
    return built


def is_missing(error: Exception) -> bool:
    """Whether an error says that this machine or build does not have the kernel.

    Examples
    --------
    >>> is_missing(RuntimeError("No available kernel. Aborting execution.")), is_missing(RuntimeError("x"))
    (True, False)
    """
    text = str(error).lower()
    known = ("not implemented", "no viable backend", "no available kernel")
    return isinstance(error, UnavailableError | NotImplementedError | TypeError) or any(
        each in text for each in known
    )


def adapted(probe: Probe, case: Case, bench) -> Built:
    """Return a case whose kernel is an adapter's, with the inputs of the plain one."""
    module = adapters.adapter(case.kernel)
    if reason := module.available():
        raise UnavailableError(reason)
    name, built = probe.replaces, probe.build(replace(case, kernel=""), bench)
    prepared, plain = getattr(module, "prepared", None), getattr(module, "plain", None)
    sets = [prepared(name, args) for args in built.sets] if prepared else built.sets
    return Built(
        module.kernels()[name], sets, case.kernel,
        overwrites=name in getattr(module, "OVERWRITES", ()),
        plain=(lambda args: plain(name, args)) if plain else None,
    )  # fmt: skip
