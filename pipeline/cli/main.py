"""The command line: parse, call one stage, print. No logic."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import click
from pydantic import ValidationError

from ...data_manifests import ManifestError
from ...extractors.errors import ExtractorError
from ...extractors.footage.errors import DecodeError
from ...extractors.weights.cards import WeightsError
from ..engine.progress import console
from ..run.config import ConfigError
from ..store.atomic import StoreError

if TYPE_CHECKING:
    pass
from .options import CONTEXT


def _known_errors() -> tuple[type[BaseException], ...]:
    errors: list[type[BaseException]] = [ManifestError, ExtractorError, DecodeError, WeightsError]
    errors += [StoreError, ConfigError, ValidationError, OSError]
    for module, name in (
        ("detectors.base", "DetectorError"),
        ("pipeline.cluster", "ClusterError"),
        ("pipeline.metrics", "MetricsError"),
        ("pipeline.feature_files", "FeatureFileError"),
        ("pipeline.compare", "CompareError"),
        ("pipeline.events", "EventError"),
        ("pipeline.report", "ReportError"),
        ("pipeline.score", "ScoreError"),
    ):
        loaded = sys.modules.get(f"vadpipe.{module}")  # an error of what was never imported
        if loaded is not None:
            errors.append(getattr(loaded, name))
    return tuple(errors)


def main() -> None:
    """Entry point: known errors become one message and exit code 1."""
    signal.signal(signal.SIGTERM, _interrupt)  # batch systems end a job so
    try:
        sys.exit(cli(standalone_mode=False) or 0)  # an Exit comes back as its code
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        console.print("stopped; run the same command again to go on")
        sys.exit(130)
    except Exception as error:
        if not isinstance(error, _known_errors()):
            raise
        console.print(f"Error: {error}", style="bold red", markup=False, highlight=False)
        sys.exit(1)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="vadpipe")
def cli() -> None:
    """Video anomaly detection: features once, then small detectors from the cache."""


if __name__ == "__main__":
    main()
