"""Errors that the user can fix become one logged line and an exit code; others keep their traceback."""

import json
import logging

import pytest

from higgs_recipes.errors import InputError, exit_on_input_error, import_module


@pytest.mark.parametrize("error, code", [(InputError("row 3: text is missing"), 2), (FloatingPointError("step 7"), 1)])
def test_user_errors_become_one_line_and_an_exit_code(error, code, caplog):
    with pytest.raises(SystemExit) as exit_info, exit_on_input_error():
        raise error
    assert exit_info.value.code == code
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("ERROR", str(error))]


def test_other_errors_keep_their_traceback(caplog):
    with pytest.raises(ZeroDivisionError), exit_on_input_error():
        _ = 1 / 0
    assert not caplog.records


def test_requests_of_the_hub_client_are_not_logged():
    with exit_on_input_error():
        assert not logging.getLogger("httpx").isEnabledFor(logging.INFO)


def test_optional_module_is_imported_or_named_with_its_install_command():
    assert import_module("json", needed_by="segment", install="pip install json") is json
    message = "^segment needs the module no_such_module, which is not installed: pip install no-such-module$"
    with pytest.raises(InputError, match=message):
        import_module("no_such_module", needed_by="segment", install="pip install no-such-module")
