"""`python -m fcacli`: what a launcher of many processes runs."""

from fcacli.cli.app import main

if __name__ == "__main__":
    main()
