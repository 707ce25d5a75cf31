"""Every fenced block of the pages works: run, parsed, or with the reason why not above it."""

import configparser
import json
import re
import subprocess
import sys
import tomllib
from collections import Counter

import pytest
import yaml

import qel
from hotpath.config import Settings
from tests.docs.blocks import BLOCKS, FOREIGN, LANGUAGES, ROOT, SHELL, Block
from tests.docs.session import run_page

# One service a page: xdist keeps the file together, so no more than one runs at a time.
SHELL_PAGES = sorted(
    {block.page for block in BLOCKS if block.language in SHELL and not block.reason}
)


def run(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages and block.reason is None]


def blocks(*languages: str) -> pytest.MarkDecorator:
    """The test once for each block of the languages that is to be run."""
    return pytest.mark.parametrize("block", run(*languages), ids=str)


def test_every_block_says_a_language_that_is_known():
    unknown = {str(block): block.language for block in BLOCKS if block.language not in LANGUAGES}

    assert unknown == {}


def test_what_is_not_run_says_why(capsys):
    left_out = [block for block in BLOCKS if block.reason is not None]
    with capsys.disabled():
        print(f"\n{len(BLOCKS)} blocks, not run: {len(left_out)}")
        for (page, reason), times in sorted(
            Counter((block.page, block.reason) for block in left_out).items()
        ):
            print(f"  {times} of {page}: {reason}")

    assert [str(block) for block in left_out if len(str(block.reason).split()) < 2] == []
    assert len(left_out) < len(BLOCKS) / 2


def test_blocks_of_other_languages_say_where_else_they_are_run():
    silent = [str(block) for block in BLOCKS if block.language in FOREIGN and not block.reason]

    assert silent == []


@pytest.mark.slow
@pytest.mark.parametrize("page", SHELL_PAGES)
def test_the_commands_of_a_page_work_in_order(page, tmp_path):
    of_page = [block for block in BLOCKS if block.page == page and block.reason is None]

    said = run_page([each for each in of_page if each.language in {*SHELL, "python"}], tmp_path)

    assert re.findall(r"^== (.*)", said, re.MULTILINE) == [
        str(block) for block in of_page if block.language in SHELL
    ]
    assert "Traceback" not in said


@pytest.mark.parametrize("block", [each for each in run("python") if each.saved_as], ids=str)
def test_what_is_to_be_saved_is_used_by_a_command(block):
    commands = "".join(
        each.text for each in BLOCKS if each.page == block.page and each.language in SHELL
    )

    assert str(block.saved_as) in commands


@pytest.mark.slow
@pytest.mark.parametrize(
    "block",
    [each for each in run("python") if not each.saved_as and each.page != "docs/clients.md"],
    ids=str,
)
def test_python_runs(block, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block.text],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 0, done.stderr


@blocks("json")
def test_json_is_json(block):
    json.loads(block.text)


@blocks("toml")
def test_toml_is_a_configuration_that_the_service_takes(block):
    options = tomllib.loads(block.text)

    settings = Settings(**options)

    assert options
    assert set(options) <= set(Settings.model_fields)
    assert {name: getattr(settings, name) for name in options}.keys() == options.keys()


@blocks("yaml")
def test_yaml_is_yaml(block):
    assert isinstance(yaml.safe_load(block.text), (dict, list))


@blocks("ini")
def test_ini_has_sections_with_settings(block):
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string(block.text)

    assert parser.sections()
    assert all(len(parser[section]) for section in parser.sections())


# A simple statement ends with a semicolon, a block opens or closes.
STATEMENT = re.compile(r"#.*|\}|[a-z]\w*( [^;{}]+)? \{( [^{}]+;)*( \})?|[a-z]\w* [^{}]+;")


@blocks("nginx")
def test_nginx_is_made_of_statements(block):
    statements = [line.strip() for line in block.text.splitlines() if line.strip()]

    assert [each for each in statements if not STATEMENT.fullmatch(each)] == []
    assert block.text.count("{") == block.text.count("}")


INSTRUCTION = re.compile(r"(#|(ARG|FROM|RUN|COPY|ENV|USER|WORKDIR|EXPOSE|CMD|ENTRYPOINT) ).*")


def test_dockerfiles_are_made_of_instructions():
    lines = [
        (str(block), line)
        for block in run("dockerfile")
        for line in re.sub(r"\\\n", " ", block.text).splitlines()
    ]

    assert [each for each in lines if each[1].strip() and not INSTRUCTION.match(each[1])] == []


def fits_a_topic(text: str) -> bool:
    """Whether some topic takes the filter."""
    for topic in qel.TOPICS:
        try:
            qel.compile_filter(text, topic)
        except qel.QelError:
            continue
        return True
    return False


@blocks("qel")
def test_filters_are_filters(block):
    filters = [line for line in block.text.splitlines() if line.strip() and line[0] != "#"]

    assert filters
    assert [text for text in filters if not fits_a_topic(text)] == []
