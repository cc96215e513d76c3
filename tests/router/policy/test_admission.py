import pytest

from federation.contract.errors import Exhausted
from router.policy.admission import Admission


def test_places_are_given_back_also_after_an_error() -> None:
    admission = Admission(2)
    with admission.place():
        with pytest.raises(KeyError), admission.place():
            raise KeyError
        assert admission.in_flight == 1
        with admission.place(), pytest.raises(Exhausted, match="works on 2"), admission.place():
            pass
    assert repr(admission) == "Admission(0/2)"
