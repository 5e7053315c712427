"""Tables in CSV files."""

import numpy as np
import pytest

from jaxinv.errors import UserError
from jaxinv.inputs import data

HEAD = "age [years],height (cm),label,part"


def load(folder, *lines):
    (folder / "own.csv").write_text("\n".join(lines), "utf-8")
    return data.load(str(folder / "own.csv"))


def test_names_units_classes_and_parts_of_a_table(tmp_path):
    lines = [f"{n},{170 + n / 2},{'ill' if n % 3 else 'fit'},target" for n in range(9)]
    found = load(tmp_path, HEAD, *lines, "4,171,fit,test", "")
    assert found.columns.names == ("age", "height") and found.columns.units == ("years", "cm")
    assert found.num_classes == 2 and len(found.target) == 9 and len(found.test) == 1
    assert found.target.labels.tolist() == [0, 1, 1] * 3  # fit, ill
    np.testing.assert_allclose(found.test.images[0, 0, 0], [0.5, 0.25])
    assert found.name == "own.csv" and found.source.startswith("CSV file, 10 rows")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["1,2", "3,4"], "has no line of names with rows below"),
        (["a,b"], "has no line of names with rows below"),
        (["a,b", "1,2", "3"], "has 1 values in line 3; expected 2."),
        (["a,b", "1,", "3,4"], "has nothing in column b, line 2; expected a number"),
        (["a,b", "1,red", "3,4"], "has red in column b, line 2; expected a number"),
        (["a,a", "1,2", "3,4"], "names the column a twice"),
        (["label", "1", "0"], "expected some of numbers"),
    ],
)
def test_what_is_no_table(tmp_path, lines, words):
    with pytest.raises(UserError) as caught:
        load(tmp_path, *lines)
    assert words in str(caught.value)
