"""`edge-pruning curve`: quality as a function of size, from the scores stored beside a circuit."""

from __future__ import annotations

import json
from typing import Annotated

from typer import Option

from edge_pruning import files
from edge_pruning.cli import flags, known
from edge_pruning.cli.app import app, prepare
from edge_pruning.cli.errors import errors_reported
from edge_pruning.cli.help import examples, flowing

CURVE = """Measure circuits of all sizes, cut from the scores beside CIRCUIT, on held-out pairs.

A circuit shows the quality of a ranking at one size; the curve shows it at every size. The command prints
[bold]faithfulness[/bold], KL, accuracy and exact match at every size, the number of edges needed to reach given levels,
and two summaries defined by MIB: [bold]CPR[/bold], the area under faithfulness as a function of the share of edges
(higher is better), and [bold]CMD[/bold], the area between that curve and 1 (0 is best). It also prints both as means
over the logarithm of the size, which give small and large circuits the same weight.
"""

Sizes = Annotated[str | None, Option(
    metavar="K[,K...]", help="Numbers of edges to measure.",
    show_default="two per doubling, MIB's ten, and those needed for the levels",
)]


@app.command(help=flowing(CURVE), epilog=examples(
    "curve runs/ioi/circuit.json", "curve runs/ioi/circuit.json --ablation mean --json > curve.json"
))
def curve(
    circuit: flags.CircuitFile,
    sizes: Sizes = None,
    task: flags.OtherTask = None,
    model: flags.OtherModel = None,
    revision: flags.Revision = None,
    split: flags.Split = "test",
    ablation: flags.OtherAblation = None,
    test: flags.OtherTest = None,
    data: flags.OtherData = None,
    columns: flags.OtherColumns = None,
    seed: flags.RandomSeed = 0,
    device: flags.AnyDevice = "auto",
    shard: flags.Shard = False,
    dtype: flags.AnyDtype = "float32",
    trust_remote_code: flags.TrustRemoteCode = False,
    as_json: flags.Json = False,
) -> None:
    with errors_reported():
        settings = {**flags.given(test=test), **flags.data(data, columns)}
        wanted = flags.numbers("--sizes", sizes, int)
        files.check_exists(circuit)
        known.check_names(task=task, ablation=ablation)
        console = prepare()
        from edge_pruning.cli.progress import ProgressBar
        from edge_pruning.cli.report import print_curve
        from edge_pruning.runs import curve_file

        with ProgressBar() as bar:
            content = curve_file(
                circuit, sizes=None if wanted is None else list(map(int, wanted)), task=task, model=model,
                revision=revision, split=split, ablation=ablation, data=settings, seed=seed,
                device=flags.place(device, shard), dtype=dtype,
                trust_remote_code=trust_remote_code,
                progress=lambda done, total: bar.stage("measuring all sizes", done, total),
            ).to_json()
        if as_json:
            print(json.dumps(content, indent=2, ensure_ascii=False))
        else:
            print_curve(content, console)
