"""`python -m bot`: the same as the `bot` script, for hosts that install only requirements.txt."""

from bot.cli.main import main

if __name__ == "__main__":
    main(prog_name="bot")
