"""`hf-ast finetune`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from hf_ast.choices import Freeze, InputStatistics, PresetName, SelectionMetric, TrainingTask

from .datasets import (
    BFloat16,
    Data,
    GradientAccumulation,
    HeadersOnly,
    LabelOptions,
    NumWorkers,
    PushToHub,
    ReportTo,
    Resume,
    as_lines,
    report_failed,
    resumable,
)
from .errors import note
from .options import DEFAULT_MODEL, Json, Model, ModelOptions, positive, quiet_loading, with_options
from .output import show_result

OF_PRESET = "that of the preset"
PATCHOUT = "that of the preset, else of the checkpoint; PaSST: 40 of 99 columns and 4 of 12 rows"


@with_options
def finetune(
    data: Data,
    options: ModelOptions,
    labels: LabelOptions,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the model.", show_default=False)],
    model: Model = DEFAULT_MODEL,
    task: Annotated[
        TrainingTask,
        typer.Option(
            help="clips: which classes a recording or segment has. events: when each class is heard in a recording, "
            "from annotations or a table with times; rows without times and label are recordings without events."
        ),
    ] = "clips",
    preset: Annotated[
        PresetName, typer.Option(help="Recipe; all but small-data are the official ones.")
    ] = "small-data",
    epochs: Annotated[
        float | None, typer.Option(callback=positive, help="Number of epochs.", show_default=OF_PRESET)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Recordings per forward pass and process.", show_default=OF_PRESET)
    ] = None,
    gradient_accumulation: GradientAccumulation = 1,
    learning_rate: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", callback=positive, help="Peak learning rate.", show_default=OF_PRESET),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            callback=positive,
            help="Length of the model's input.",
            show_default="that of the longest recording, at most that of the checkpoint",
        ),
    ] = None,
    stats: Annotated[
        InputStatistics | None,
        typer.Option(
            help="Mean and deviation that normalise the input: those of the checkpoint, with which its weights were "
            "trained, or those of the training recordings.",
            show_default="checkpoint; data with the presets esc50 and speech-commands",
        ),
    ] = None,
    balanced: Annotated[
        bool | None,
        typer.Option(
            "--balanced/--not-balanced",
            help="Draw rare classes as often as frequent ones.",
            show_default=f"{OF_PRESET}: the presets audioset and passt-audioset do",
        ),
    ] = None,
    metric: Annotated[
        SelectionMetric | None,
        typer.Option(
            help="What the best state is chosen by.", show_default="balanced_accuracy; mAP for several labels"
        ),
    ] = None,
    time_patchout: Annotated[
        float | None,
        typer.Option(metavar="SHARE", min=0, max=0.95, help="Columns of patches to drop.", show_default=PATCHOUT),
    ] = None,
    frequency_patchout: Annotated[
        float | None,
        typer.Option(metavar="SHARE", min=0, max=0.95, help="Rows of patches to drop.", show_default=PATCHOUT),
    ] = None,
    freeze: Annotated[Freeze, typer.Option(help="What is not trained.")] = "nothing",
    lora: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="RANK",
            help="Train low-rank additions to the attention and feed-forward layers, and the head, and add them up.",
            show_default="none",
        ),
    ] = None,
    validation: Annotated[
        float,
        typer.Option(metavar="SHARE", min=0, max=0.9, help="Share to hold out if the data name no validation split."),
    ] = 0.2,
    headers_only: HeadersOnly = False,
    eval_every: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Steps between evaluations, and between saved states.",
            show_default="an epoch, or a 40th of the training",
        ),
    ] = None,
    num_workers: NumWorkers = 2,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of everything random.")] = 0,
    bf16: BFloat16 = False,
    report_to: ReportTo = "none",
    push_to_hub: PushToHub = None,
    license: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Licence for the model card, as the Hub names it.",
            show_default="that of the model it starts from, if its card has one",
        ),
    ] = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Fine-tune a model on labelled recordings.

    Counts of the classes are shown first, with the files that cannot be used. --out gets the model that did best on
    the validation recordings, its metrics (metrics.json), a figure (results.png) and a model card (README.md); it
    opens with `hf-ast classify --model`. Prints the metrics; with `--json`, an object with `folder`, `split`,
    `num_recordings`, `metrics`, `standard_errors`, `baselines`, `remarks`, `classes`, `confusion`, `failed`, `skipped`
    and `warned`.

    On several processes: `accelerate launch -m hf_ast.cli finetune DATA --model MODEL --out DIR`, or the same with
    `torchrun --nproc-per-node N -m`. `accelerate config` sets up FSDP and DeepSpeed. --batch-size is per process.
    """
    from hf_ast.training.finetune import finetune

    quiet_loading()
    if model == DEFAULT_MODEL:
        note("starting from the embedded keyword model, which is small and knows only speech; --model chooses another")
    with resumable(out):
        found = labels.read(
            data,
            task,
            validation_fraction=validation,
            decode=not headers_only,
            seed=seed,
        )
        if task == "clips" and any(clip.end_s is not None for clip in found.clips):
            note("each segment is a clip of its own; to learn when something is heard, add --task events")
        done = finetune(
            found,
            out,
            model=model,
            preset=preset,
            num_epochs=epochs,
            batch_size=batch_size,
            gradient_accumulation_steps=gradient_accumulation,
            learning_rate=learning_rate,
            duration_s=duration,
            stats=stats,
            balanced=balanced,
            metric=metric,
            time_patchout=time_patchout,
            frequency_patchout=frequency_patchout,
            freeze=freeze,
            lora=lora,
            eval_every=eval_every,
            num_workers=num_workers,
            seed=seed,
            bf16=bf16,
            report_to=report_to,
            resume=resume,
            push_to_hub=push_to_hub,
            license=license,
            progress=sys.stderr.isatty(),
            **options.settings(),
        )
    if not done.is_main_process:
        return
    damaged = dict.fromkeys(done.damaged, "it turned out to be damaged in training")
    reasons = {"skipped": found.skipped | damaged, "warned": found.warned}
    if done.evaluation is None:
        note("nothing was measured: no recording was held out")
        show_result(as_json, {"folder": str(out)} | reasons, [str(out)])
        if found.failed or damaged:
            raise typer.Exit(1)
        return
    result = {"folder": str(out), "split": done.split} | done.evaluation.as_data() | reasons
    show_result(as_json, result, [f"{out}, {done.split}:", *as_lines(done.evaluation)])
    if report_failed(done.evaluation) or found.failed or damaged:
        raise typer.Exit(1)
