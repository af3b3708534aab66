"""`python -m fcacli`: what a launcher of many processes runs."""

from fcacli.cli.app import main
from fcacli.workflows.ranks import end_among_others

if __name__ == "__main__":
    with end_among_others():
        main()
