"""The command `footfall`, which is also `python -m footfall`."""


def main() -> None:
    """Run the command line; only here is it imported, since each worker imports the main script of its parent."""
    from footfall.cli.commands import main as run_command  # noqa: PLC0415

    run_command()


if __name__ == "__main__":
    main()
