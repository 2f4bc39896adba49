"""Locate a model's files: a folder, or the snapshot of a hub name and revision. No torch.

Only safetensors, tokenizers and configurations are fetched or read: pickles can run code. Honours
HF_HOME, HF_HUB_OFFLINE and HF_TOKEN, and goes to the network only for a name that is no folder.
"""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

WANTED = ["*.json", "*.txt", "*.model", "*.jinja"]
WEIGHTS, CODE, GGUF = ["*.safetensors"], ["*.py"], ".gguf"
UNWANTED = ["*/*", "consolidated*"]  #: subfolders and second copies in other layouts
HUB_NAME = re.compile(r"([\w.-]+/)?[\w-][\w.-]*(@[\w./-]+)?")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
LISTING = 10.0  #: seconds for a list of files
ADVICE = "save it anew as safetensors (model.save_pretrained) where you trust it"


class Files(NamedTuple):
    """A model on disk."""

    folder: Path
    name: str  #: "org/name", or the folder's own
    revision: str  #: as requested: a branch, tag or commit; "" for a folder
    commit: str  #: resolved; "" for a folder
    gguf: Path | None = None  #: the one file that holds it all
    also: tuple[str, ...] = ()  #: other names by which `known` may have the model

    @property
    def title(self) -> str:
        """Return the name, with the revision if one was requested."""
        return f"{self.name}@{self.revision}" if self.revision else self.name

    @property
    def exact(self) -> str:
        """Return a name by which any machine can find or fetch the same bytes."""
        return f"{self.name}@{self.commit}" if self.commit else str(self.gguf or self.folder)


def is_endpoint(where: str | Path) -> bool:
    """Return whether a model is named by the address of a server."""
    return str(where).startswith(("http://", "https://"))


def locate(where: str | Path, weights: bool = True, code: bool = False) -> Files:
    """Return the files of a model; `code` also fetches the Python files that some models bring.

    weights=False fetches no weights from the hub; if the hub can be reached, its list of files
    is checked for readable ones.
    Errors: ValueError for a folder that is not there or holds no model, a name the hub does not
    know, a gated or pickled model, no network: one line each, with what to do.
    """
    folder = Path(where)
    if gguf := only_gguf(folder):
        return Files(gguf.parent, gguf.stem, "", "", gguf)
    if folder.is_dir():
        files = Files(folder, folder.name, "", "")
    elif folder.suffix.lower() == GGUF:
        raise ValueError(f"no file {folder}; give a GGUF file that is there, or a model's folder")
    elif HUB_NAME.fullmatch(str(where)):
        name, _, revision = str(where).partition("@")
        folder = _fetch(name, revision, WANTED + WEIGHTS * weights + CODE * code)
        files = Files(folder, name, revision, folder.name)
        if not list(folder.glob(WEIGHTS[0])):
            check_listed(files)
    else:
        raise ValueError(f"no model folder {folder}; give one that holds config.json and weights")
    needed = list(folder.glob(WEIGHTS[0])) or (files.commit and not weights)
    if (folder / "config.json").exists() and needed:
        return files
    if any(list(folder.glob(pattern)) for pattern in PICKLES):
        raise ValueError(f"{where} has pickled weights, which can run code; {ADVICE}")
    reason = f"config.json and *.safetensors are needed; if its weights are pickles, {ADVICE}"
    raise ValueError(f"{where} holds no model: {reason}")


def only_gguf(path: Path) -> Path | None:
    """Return the GGUF file at a path, or in a folder without other weights, else None.

    Errors: ValueError naming the files if a folder holds several.
    """
    if path.is_file():
        return path
    if not path.is_dir() or list(path.glob(WEIGHTS[0])):
        return None
    found = sorted(file for file in path.iterdir() if file.suffix.lower() == GGUF)
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:5]) + ", ..." * (len(found) > 5)
        raise ValueError(f"{path} holds {len(found)} GGUF files; give one of them: {names}")
    return found[0] if found else None


def check_listed(files: Files) -> None:
    """Raise ValueError if the hub's list of a model's files has no safetensors.

    Step branches of some models hold only pickles. Offline nothing is checked.
    """
    from huggingface_hub import HfApi, errors

    try:
        info = HfApi().model_info(files.name, revision=files.commit, timeout=LISTING)
    except (errors.HTTPError, errors.OfflineModeIsEnabled, OSError):
        return
    listed = [file.rfilename for file in info.siblings or () if "/" not in file.rfilename]
    if any(fnmatch(name, WEIGHTS[0]) for name in listed):
        return
    pickles = [name for name in listed if any(fnmatch(name, kind) for kind in PICKLES)]
    if ggufs := [name for name in listed if name.lower().endswith(GGUF)]:
        raise ValueError(
            f"{files.title} has GGUF files on the hub; download one, such as {ggufs[0]}, and give "
            "its path"
        )
    has = f"only pickled weights ({pickles[0]}), which can run code" if pickles else "no weights"
    raise ValueError(f"{files.title} has {has} on the hub; {ADVICE}")


def _fetch(name: str, revision: str, patterns: list[str]) -> Path:
    """Return the folder of a snapshot, from the cache or the hub; its name is the commit."""
    from huggingface_hub import constants, errors, snapshot_download

    shown = f"{name}@{revision}" if revision else name
    advice = f"put it into the cache ({constants.HF_HUB_CACHE}) from a machine that has a network"
    try:
        folder = snapshot_download(
            name, revision=revision or None, allow_patterns=patterns, ignore_patterns=UNWANTED
        )
    except errors.GatedRepoError as error:
        how = "accept its terms on its page, then set HF_TOKEN"
        raise ValueError(f"{name} is gated: {how}") from error
    except errors.RepositoryNotFoundError as error:
        hint = "check the spelling, or set HF_TOKEN if it is private"
        raise ValueError(f"no folder {name} here and no model {name} on the hub: {hint}") from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{name} has no revision {revision}; its page lists them") from error
    except errors.LocalEntryNotFoundError as error:
        why = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else "the hub did not answer"
        raise ValueError(
            f"no folder {name} here, {shown} not cached, and {why}: {advice}"
        ) from error
    except (errors.HTTPError, errors.HFValidationError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{shown} could not be fetched: {reason}") from error
    return Path(folder)
