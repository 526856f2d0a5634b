"""What runs the shards: this machine, or a Ray cluster."""

import platform
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .plan import Shard
from .work import Report, ShardWorker

# How often Ray restarts an actor: a recording that kills every process that decodes it must not do so for ever
MAX_RESTARTS = 20
# How long idle actors wait for busy ones, beyond twice the time of the longest shard
PATIENCE_S = 10.0


def run_on_ray(
    out: Path,
    shards: Sequence[Shard],
    *,
    address: str | None,
    num_actors: int | None,
    device: str | None,
    batch_size: int | None,
    num_workers: int,
    token: str | bool | None = None,
) -> Iterator[Report]:
    """Extract shards with Ray actors, each of which loads the model once.

    Ray places the actors, restarts dead ones, and repeats the shards that they were working on. All machines must see
    the folder `out` and the recordings under the same paths, and have hf_ast installed.

    An actor whose machine is gone may wait for room on another one for ever. So when no shard is left to begin, and
    none was completed for much longer than any took, an idle actor begins one that another is working on. If both
    finish it, the second file replaces an equal one.

    Args:
        out: Folder of the extraction, with its plan.
        shards: The shards to extract.
        address: Address of the cluster, as for `ray.init`. If None, the cluster that the environment names or that
            this process is connected to; if there is none, Ray starts on this machine, and ends with this process.
        num_actors: Number of actors; if None, one per GPU of the cluster or, on the CPU, as many as have a processor
            for each of their processes.
        device: Where the models run; "cuda" gives each actor a GPU. If None, on GPUs if the cluster has any.
        batch_size: As in `ShardWorker`.
        num_workers: Processes that decode for each model.
        token: Access token of the Hub.

    Raises:
        ImportError: Ray is not installed.
        ray.exceptions.RayActorError: All actors died repeatedly.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError('engine="ray" needs Ray: pip install "hf-ast[ray]"') from error

    is_ours = not ray.is_initialized()
    if is_ours:
        ray.init(address=address, log_to_driver=False, include_dashboard=False)
    there = ray.cluster_resources()
    if device is None:
        device = "cuda" if there.get("GPU", 0) >= 1 else "cpu"
    num_cpus, num_gpus = 1 + num_workers, int(device.startswith("cuda"))
    if num_actors is None:
        num_actors = int(there.get("GPU", 0)) if num_gpus else int(there.get("CPU", 1)) // num_cpus
    actor_class = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_restarts=MAX_RESTARTS, max_task_retries=-1)(
        _Actor
    )
    settings: dict[str, Any] = {
        "device": device,
        "batch_size": batch_size,
        "num_workers": num_workers,
        "token": token,
    }
    actors: list[Any] = [actor_class.remote(out, **settings) for _ in range(max(1, min(num_actors, len(shards))))]
    try:
        yield from _distribute(ray, actors, shards)
    finally:
        for actor in actors:
            ray.kill(actor)
        if is_ours:
            ray.shutdown()


def _distribute(ray: Any, actors: Sequence[Any], shards: Sequence[Shard]) -> Iterator[Report]:
    """Give each idle actor the next shard, until all are done."""
    unfinished = dict.fromkeys(shards)
    to_begin = list(reversed(shards))
    in_work: dict[Any, _Task] = {}
    idle = list(actors)
    longest_s = 0.0
    while unfinished:
        while idle and to_begin:
            in_work |= _begin(idle.pop(), to_begin.pop())
        done, _ = ray.wait(list(in_work), timeout=PATIENCE_S + 2 * longest_s if idle else None)
        if not done:
            num_hands = Counter(task.shard for task in in_work.values())
            in_work |= _begin(idle.pop(), min(unfinished, key=lambda shard: num_hands[shard]))
            continue
        task = in_work.pop(done[0])
        try:
            report = ray.get(done[0])
        except ray.exceptions.RayActorError:  # Ray gave up on this actor
            if task.shard in unfinished:
                to_begin.append(task.shard)
            if not idle and not in_work:
                raise
            continue
        longest_s = max(longest_s, time.monotonic() - task.began_at)
        idle.append(task.actor)
        if task.shard in unfinished:
            del unfinished[task.shard]
            yield report


class _Task(NamedTuple):
    """A shard in progress."""

    actor: Any
    shard: Shard
    began_at: float


def _begin(actor: Any, shard: Shard) -> dict[Any, _Task]:
    return {actor.extract.remote(shard): _Task(actor, shard, time.monotonic())}


class _Actor:
    """A worker in a Ray process."""

    def __init__(self, out: Path, **settings: Any):
        if not (out / "plan.parquet").is_file():
            raise FileNotFoundError(
                f"out={str(out)!r} has no plan on {platform.node()}: all machines must share that folder."
            )
        self.worker = ShardWorker(out, **settings)

    def extract(self, shard: Shard) -> Report:
        """Write the file of a shard."""
        return sum(self.worker([shard]), Report())
