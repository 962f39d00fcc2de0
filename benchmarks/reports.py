"""What a bench says of itself: machine, versions, and its numbers as a table."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numpy", "scipy", "monai", "medpy")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
HEADER = (
    *("job", "variant", "s, minimum (median)", "processor s", "peak MiB (when loaded)"),
    *("times as fast, minimum (median)", "by processor", "share of peak", "goal"),
)


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory, settings of threads, and how busy it is now."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": usable,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "threads": {name: os.environ.get(name) for name in THREADS},
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str | None]:
    """Of Python and of the packages that matter; None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def table(jobs: Mapping[str, Mapping[str, Any]]) -> str:
    """The measured jobs (`measuring.measure`) by name, in Markdown."""
    rows = [HEADER, ("---", "---", *["---:"] * (len(HEADER) - 3), "---")]
    for name, job in jobs.items():
        last = list(job["variants"])[-1]
        for variant, measured in job["variants"].items():
            seconds, peak, loaded = measured["seconds"], measured["peak_mib"], measured["loaded_mib"]
            ratio = job["ratios"].get(variant)
            share = ratio and ratio["share_of_peak"]
            rows.append(
                (
                    name,
                    variant,
                    f"{seconds['minimum']:.3g} ({seconds['median']:.3g})",
                    f"{measured['processor_seconds']['minimum']:.3g}",
                    "-" if peak is None else f"{peak:.0f} ({loaded:.0f})",
                    f"{ratio['speedup_of_minimum']:.3g} ({ratio['speedup_of_median']:.3g})" if ratio else "1",
                    f"{ratio['speedup_of_processor']:.3g}" if ratio else "1",
                    "1" if ratio is None else "-" if share is None else f"{share:.2g}",
                    _grown(job) + _goal(job["goal"]) if variant == last else "",
                )
            )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _goal(goal: Mapping[str, Any]) -> str:
    texts = {"speedup": "{:.3g} times as fast", "seconds": "at most {} s", "peak": "at most {} of the peak"}
    texts["exponent"] = "grows at most with exponent {}"
    wanted = [text.format(goal[kind]) for kind, text in texts.items() if goal[kind] is not None]
    return f"{', '.join(wanted)}: {'reached' if goal['reached'] else 'missed'}" if wanted else ""


def _grown(job: Mapping[str, Any]) -> str:
    found = job.get("exponents", {})
    told = [f"{what} by {exponent:.2f}" for what, exponent in found.items() if exponent is not None]
    return f"exponents: {', '.join(told)}; " if told else ""
