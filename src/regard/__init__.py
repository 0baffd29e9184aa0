"""Regard: BERT with its attention in the open.

regard.load(name_or_folder)      a model with its tokenizer: model(texts), model.look(text)
regard.Classifier(model=...)     fit, predict, in scikit-learn's manners; also Regressor
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regard.errors import Problem
    from regard.estimator import Classifier, Regressor
    from regard.system import load

__all__ = ["Classifier", "Problem", "Regressor", "__version__", "load"]

# The door is light: torch is imported by the first name that needs it, and the version read when it is asked for.
_ROOMS = {"Classifier": "estimator", "Problem": "errors", "Regressor": "estimator", "load": "system"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("regard")
    if name not in _ROOMS:
        raise AttributeError(f"module 'regard' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"regard.{_ROOMS[name]}"), name)
