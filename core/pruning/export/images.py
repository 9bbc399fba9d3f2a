"""The files of a pruned image classifier."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from string import Template

import pyarrow as pa
import pyarrow.parquet as pq
import transformers
from torch import Tensor

from core.domains.channels import resize
from core.domains.channels.cut import reads_of
from core.domains.channels.families import AUTO_CLASS
from core.domains.channels.network import ChannelNetwork
from core.domains.channels.own_readers import reads
from core.domains.structure import Structure
from core.domains.weights import WHOLE
from core.pruning.export.files import TEMPLATES, save_weights
from core.pruning.export.verify import modeling_file
from core.pruning.system.files import write_json
from core.pruning.training.batches import Rows
from core.rows.example import Example
from core.rows.image.picture import read_bytes
from core.rows.modality import Modality
from core.spec.job import Precision
from core.tasks.task import plain


def write_image_model(
    network: ChannelNetwork,
    structure: Structure,
    modality: Modality,
    target: Path,
    *,
    whole: bool = False,
    precision: Precision = "float32",
) -> None:
    """Weights, config, preprocessor and the code that loads them; a `whole` model, with all channels, needs none."""
    target.mkdir(parents=True, exist_ok=True)
    model, family = network.assembled(), network.family
    save_weights(model, target / WHOLE, precision)
    runs = reads_of(model, network.given, structure)
    own = {"reads": runs} if runs else {}
    write_json(target / "structure.json", structure.to_json() | own)
    modality.save(target, model)
    config = model.config.to_dict() | {"dtype": precision}
    config.pop("_name_or_path", None)
    if whole:
        write_json(target / "config.json", config | {"architectures": [family.task_class]})
        return
    names = {"task_class": family.task_class, "auto_class": AUTO_CLASS, "model_type": family.model_type}
    names |= {"config_class": type(model.config).__name__, "version": transformers.__version__}
    sources = {
        name: Path(str(module.__file__)).read_text().split("from torch import Tensor, nn\n", 1)[1].strip() + "\n"
        for name, module in {"resize": resize, "reads": reads}.items()
    }
    template = Template((TEMPLATES / "modeling_channels.py.txt").read_text())
    code = template.substitute(names | sources)
    file = modeling_file(code.encode())
    module = file.removesuffix(".py")
    said = {
        "architectures": [f"Pruned{family.task_class}"],
        "auto_map": {
            "AutoConfig": f"{module}.Pruned{names['config_class']}",
            AUTO_CLASS: f"{module}.Pruned{family.task_class}",
        },
        "model_type": f"topwork-{family.model_type}",
        "topwork": {"shapes": {name: list(shape) for name, shape in network.narrower().items()}} | own,
    }
    write_json(target / "config.json", config | said)
    (target / file).write_text(code, encoding="utf-8")
    loader = Template((TEMPLATES / "load_images.py.txt").read_text()).substitute({"auto_class": AUTO_CLASS})
    (target / "load.py").write_text(loader, encoding="utf-8")


def write_test_pictures(examples: Sequence[Example], rows: Rows, logits: Tensor, target: Path, pictures: Path) -> None:
    """`test.jsonl`: the name of each held-out picture, its label, and what the model says of it: label and logits.

    The pictures themselves are left in `pictures`, a Parquet file that is not part of the checkpoint.
    """
    said = rows.task.said(logits, rows.labels)
    with target.open("w", encoding="utf-8") as out:
        for example, predicted, values in zip(examples, said, logits.tolist(), strict=True):
            (picture,) = example.text
            line = {"image": picture.name, "label": example.label, "predicted": predicted}
            out.write(json.dumps(line | {"logits": [plain(value) for value in values]}, ensure_ascii=False) + "\n")
    content = dict(read_bytes([example.text[0] for example in examples]))
    pq.write_table(pa.table({"bytes": pa.array([content[i] for i in range(len(examples))], pa.binary())}), pictures)
