"""A base that is stored in 4 or 8 bits, written out plainly so that updates can be added to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory

from common.json_files import write_json
from merging.algebra.base import COMPANIONS, WEIGHTS, Base, open_base
from models.registry import family_of
from models.whole_weights import load_whole


@contextmanager
def plain_weights(base: Base, beside: Path) -> Iterator[Base]:
    """Give a base, or where bitsandbytes stores it the same with its weights dequantised.

    These are the weights that a training on the stored base has seen.

    Args:
        base: the model.
        beside: the temporary folder stands beside this one, where there is room for a model.
    """
    if not base.is_bitsandbytes:
        yield base
        return
    from safetensors.torch import save_file

    family = family_of(str(base.config.get("model_type")), base.name)(str(base.folder), None)
    with TemporaryDirectory(prefix=".dequantised-", dir=beside.absolute().parent) as place:
        model = load_whole(family.model_class, str(base.folder), device_map={"": "cpu"})
        model = model.dequantize()
        weights = {name: weight.contiguous() for name, weight in model.named_parameters()}
        save_file(weights, Path(place) / WEIGHTS, metadata={"format": "pt"})
        write_json(
            Path(place) / "config.json",
            {key: value for key, value in base.config.items() if key != "quantization_config"},
        )
        for name in COMPANIONS:
            if (base.folder / name).is_file():
                copyfile(base.folder / name, Path(place) / name)
        yield open_base(place)
