"""README's sessions, as written."""

import doctest
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def sessions():
    """Those of the part about numpy: the one before the first heading that names another package."""
    text = README.read_text(encoding="utf-8")
    return text.split("\n## numpy\n")[1].split("\n## ")[0]


def test_the_sessions_of_numpy():
    test = doctest.DocTestParser().get_doctest(sessions().replace("```\n", "\n"), {}, "README", str(README), 0)
    assert len(test.examples) >= 6
    assert doctest.DocTestRunner().run(test).failed == 0
