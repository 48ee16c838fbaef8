"""Each published flaw and each known bug of PgBouncer has a test that pgferry has not got it."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
FLAWS = {
    "CVE-2012-4575: a long database name": "integration/test_upstream_flaws.py::test_long_database_names",
    "1.5.5: packets in an unexpected order": "integration/test_login_startup.py::test_instead_of_a_password",
    "CVE-2015-6817: an unknown user becomes auth_user": "integration/test_auth_query.py::test_queries_run_as_the_user",
    "CVE-2021-3935: bytes in front of the handshake": (
        "integration/test_tls_clients.py::test_bytes_in_front_of_the_handshake_are_refused"
    ),
    "CVE-2021-3935: bytes behind a server's answer": "integration/test_tls_servers.py::test_bad_answers",
    "CVE-2025-2291: expired passwords": "integration/test_auth_query.py::test_who_gets_in",
    "CVE-2025-12819: search_path of a client": "integration/test_auth_query.py::test_client_parameters_stay_out",
    "CVE-2026-6664: lengths in SASL messages": "integration/test_upstream_flaws.py::test_lengths_within_sasl_messages",
    "CVE-2026-6665: a long challenge": "integration/test_upstream_flaws.py::test_challenges_of_a_hostile_server",
    "CVE-2026-6666: an error without SQLSTATE": "chaos/test_death_rubbish.py::test_error_without_fields",
    "CVE-2026-6667: who may KILL_CLIENT": "integration/test_console_operation.py::test_kill_client",
    "CVE-2026-19888: no nonce": "integration/test_login.py::test_final_message_without_nonce",
    "CVE-2026-6668: huge messages": "integration/test_upstream_flaws.py::test_huge_messages_of_a_client",
    "CVE-2026-6669: endless iterations": (
        "integration/test_upstream_flaws.py::test_a_million_iterations_hold_up_nobody"
    ),
    "1: RELOAD is all or nothing": "integration/test_console_operation.py::test_bad_reload_changes_nothing",
    "2: client_idle_timeout of one user": "integration/test_pooling_timeouts.py::test_timeouts_of_users",
    "3: query_wait_timeout of one user": (
        "integration/test_pooling_timeouts.py::test_wait_timeout_of_user_and_database"
    ),
    "4: PAUSE after WAIT_CLOSE": "integration/test_console_operation.py::test_reconnect_and_wait_close",
    "5: RESUME answers a waiting PAUSE": "integration/test_console_operation.py::test_pending_pause_is_answered",
    "6: RESUME after KILL": "integration/test_console_operation.py::test_kill_and_resume",
    "7: auth_file twice in a second": (
        "integration/test_auth_hba.py::test_auth_file_is_read_again_when_it_changes"
    ),
    "8: a mistyped HBA line": "integration/test_auth_hba.py::test_check_and_start_refuse_a_bad_file",
    "9: names in double quotes": "unit/config/test_config_syntax.py::test_names",
    "10: stats_period": "integration/test_upstream_flaws.py::test_stats_period_counts_after_reload",
    "11: DISABLE leaves those inside": "integration/test_console_operation.py::test_disable_and_enable",
    "12: logins one after the other": "integration/test_upstream_flaws.py::test_several_logins_at_a_time",
    "12: PAM's queue": "integration/test_auth_pam.py::test_modules_that_hang_hold_up_nobody",
    "12: LDAP's queue": "integration/test_auth_ldap.py::test_a_silent_server_holds_up_nobody",
    "13: who is an admin": "integration/test_upstream_flaws.py::test_the_console_does_not_tell_who_is_an_admin",
    "14: values that differ in case": "integration/test_upstream_flaws.py::test_values_that_differ_in_case_only",
    "15: a changed password": "integration/test_upstream_flaws.py::test_a_changed_password_of_an_entry",
}
# Limits before the login: what a stranger can take.
LIMITS = {
    "startup packet size": "integration/test_login_startup.py::test_bad_packets",
    "password packet size": "integration/test_login.py::test_unauthenticated_peers_cost_little",
    "time": "integration/test_pooling_timeouts.py::test_login_timeout",
    "time of a handshake": "integration/test_tls_clients.py::test_handshakes_that_do_not_end",
    "number of half-open logins": "integration/test_upstream_flaws.py::test_half_open_logins",
    "iterations from a server": "integration/test_upstream_flaws.py::test_challenges_of_a_hostile_server",
}


@pytest.mark.parametrize("what", [*FLAWS, *LIMITS])
def test_there_is_a_test(what: str) -> None:
    path, _, name = {**FLAWS, **LIMITS}[what].partition("::")
    assert re.search(rf"^def {name}\(", (TESTS / path).read_text(), re.MULTILINE), what
