"""Words of messages that depend on a number or a name."""


def pluralize(number: int, noun: str) -> str:
    """Return "1 row" or "2,000 rows"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_kind(model_step: str) -> str:
    """Return the kind of model that a model step trains, in words: random_forest -> "Random forest"."""
    return model_step.replace("_", " ").capitalize()
