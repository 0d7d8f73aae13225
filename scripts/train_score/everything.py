"""Does all that is left to do, from the packages to a judged candidate: give the same command again after any stop.

Each step goes on where it was cut. The candidate goes to `WORK/candidate`, never into the repository: whether it is
better than the model there is for `figures.json` to say (`against`), and for you.

    python scripts/train_score/everything.py --work DIR --name v5 --minutes 240 --from DIR/runs/v4/best.pt
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import export

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Run the steps in order; the first that fails ends it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--name", required=True, help="of the training run")
    parser.add_argument("--minutes", required=True, help="of processor time, of each worker")
    parser.add_argument("--rate", default="2e-3")
    parser.add_argument("--wide", action="store_true", help="the larger net")
    parser.add_argument("--from", dest="start", type=Path, help="checkpoint to begin with")
    parser.add_argument("--version", default="0.0.0-candidate")
    options = parser.parse_args()
    work = ["--work", str(options.work)]
    train = ["--name", options.name, "--minutes", options.minutes, "--rate", options.rate]
    train += ["--wide"] * options.wide + (["--from", str(options.start)] if options.start else [])
    candidate = options.work / "candidate"
    run = options.work / "runs" / options.name
    blend = run.with_name(f"{options.name}-blend")
    chosen = str(blend / "best.pt")
    steps = [
        ["sources.py", "fetch", *work],
        ["label.py", *work],
        ["train.py", *work, *train],
        ["blend.py", *work, str(run / "best.pt"), str(run / "latest.pt"), "--name", blend.name],
        ["rivals.py", *work],
        ["export.py", *work, "--checkpoint", chosen, "--version", options.version, "--to", str(candidate),
         "--keep", str(candidate / "score.pt")],
        ["evaluate.py", *work, "--model", str(candidate), "--against", str(export.MODELS / "score"), "--int8",
         "--to", str(candidate / "figures.json")],
    ]  # fmt: skip
    paths = [str(HERE.parents[1]), str(HERE.parents[1] / "pipelines")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    with (options.work / "pids").open("a") as pids:
        print(os.getpgid(0), file=pids)  # a group to stop and to continue while something else is measured
    for step in steps:
        print(" ".join(step), flush=True)
        subprocess.run([sys.executable, str(HERE / step[0]), *step[1:]], env=environment, check=True)


if __name__ == "__main__":
    main()
