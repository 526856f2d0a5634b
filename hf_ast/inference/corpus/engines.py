"""What runs the shards: this machine, or a Ray cluster."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .plan import Plan, Shard
from .work import Report, ShardWorker

ENGINES = ("local", "ray")
# Deaths of a worker with the same shard in work, after which the shard is taken for their cause
MAX_RETRIES = 3


def run_on_ray(
    out: Path,
    plan: Plan,
    shards: Sequence[Shard],
    *,
    address: str | None,
    num_actors: int | None,
    device: str,
    batch_size: int,
    num_workers: int,
) -> Iterator[Report]:
    """Extract shards with actors of Ray, each of which loads the model once.

    Ray places the actors, starts dead ones again, and repeats what they had in work. All machines must see the folder
    `out` and the recordings under the same paths, and have hf_ast installed.

    When no shard is left to begin, an idle actor begins one that another has in work, as that one may wait for room
    after its machine is gone. If both finish it, the second file replaces an equal one.

    Args:
        out, plan, shards: What to do.
        address: Of the cluster, as `ray.init` takes it. If None, the one that the environment names or to which this
            process is connected; else Ray starts on this machine, and ends with this process.
        num_actors: As many as the cluster has GPUs or, on the CPU, processors for each of their processes, if None.
        device: Where the models run; "cuda" gives each actor a GPU.
        batch_size: Windows per forward pass.
        num_workers: Processes that decode beside each model.

    Raises:
        ImportError: Ray is not installed.
        RuntimeError: The actors die again and again with the same shard.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError('engine="ray" needs Ray: pip install "hf-ast[ray]"') from error

    is_ours = not ray.is_initialized()
    if is_ours:
        ray.init(address=address, log_to_driver=False, include_dashboard=False)
    num_cpus, num_gpus = 1 + num_workers, int(device.startswith("cuda"))
    if num_actors is None:
        there = ray.cluster_resources()
        num_actors = int(there.get("GPU", 0)) if num_gpus else int(there.get("CPU", 1)) // num_cpus
    actor_class = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_restarts=-1, max_task_retries=MAX_RETRIES)(
        _Actor
    )
    settings: dict[str, Any] = {"device": device, "batch_size": batch_size, "num_workers": num_workers}
    actors = [actor_class.remote(out, **settings) for _ in range(max(1, min(num_actors, len(shards))))]
    try:
        yield from _distribute(ray, actors, shards)
    finally:
        for actor in actors:
            ray.kill(actor)
        if is_ours:
            ray.shutdown()


def _distribute(ray: Any, actors: Sequence[Any], shards: Sequence[Shard]) -> Iterator[Report]:
    """Give each idle actor the shard that is in the fewest hands, until all are done."""
    unfinished = dict.fromkeys(shards)
    in_work: dict[Any, tuple[Any, Shard]] = {}
    idle = list(actors)
    while unfinished:
        for actor in idle:
            num_hands = Counter(shard for _, shard in in_work.values())
            shard = min(unfinished, key=lambda shard: num_hands[shard])
            in_work[actor.extract.remote(shard)] = (actor, shard)
        done, _ = ray.wait(list(in_work))
        actor, shard = in_work.pop(done[0])
        idle = [actor]
        report = ray.get(done[0])
        if shard in unfinished:
            del unfinished[shard]
            yield report


class _Actor:
    """A worker in a process of Ray's."""

    def __init__(self, out: Path, *, device: str, batch_size: int, num_workers: int):
        if not (out / "plan.parquet").is_file():
            raise FileNotFoundError(
                f"out={str(out)!r} has no plan on {os.uname().nodename}: all machines must share that folder."
            )
        self.worker = ShardWorker(out, device=device, batch_size=batch_size, num_workers=num_workers)

    def extract(self, shard: Shard) -> Report:
        """Make the file of a shard."""
        reports = list(self.worker([shard]))
        return Report(*map(sum, zip(*reports, strict=True)))
