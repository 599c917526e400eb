"""The beginning of a process: its modules are imported without a look for garbage among them."""

import gc


def main() -> None:
    """Run the command line.

    Importing makes hundreds of thousands of objects that stay to the end. To walk through them for garbage takes half
    as long as to make them, as long again when the process ends, and would hold a service's streams up in between.
    """
    gc.disable()
    from app.cli import main as run  # noqa: PLC0415 - see above

    gc.freeze()
    gc.enable()
    run()
