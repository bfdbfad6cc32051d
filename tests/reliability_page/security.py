"""Which item of the security checklist is tested by which tests."""

from __future__ import annotations

from typing import Final

from tests.reliability_page.places import Place

_HTTP: Final = "tests/unit/http/test_"
_PEOPLE: Final = "tests/unit/accounts/test_"
_E2E: Final = "tests/e2e/test_"
_WHO: Final = f"{_E2E}authorisation.py::test_"
_INPUT: Final = f"{_E2E}bad_input.py::test_"
_HEADERS: Final = f"{_E2E}headers.py::test_"
_COOKIES: Final = "sessions that can be ended, and cookies for pages"

ITEMS: Final[dict[str, Place]] = {
    "S1": Place(
        "passwords are stored as argon2id, hashed off the loop, never more than two at once",
        (
            f"{_PEOPLE}passwords.py::test_what_is_stored_is_argon2id_of_owasp_strength_or_better",
            f"{_PEOPLE}passwords.py::test_a_weaker_hash_is_replaced_at_sign_in",
            f"{_PEOPLE}passwords.py::test_the_loop_runs_on_while_two_threads_hash",
            f"{_PEOPLE}passwords.py::test_a_full_queue_refuses_at_once_and_recovers",
        ),
    ),
    "S2": Place(
        "a login nobody has costs the same work",
        (
            f"{_PEOPLE}passwords.py::test_the_same_work_whether_the_account_exists_or_not",
            "tests/integration/test_accounts.py::test_every_way_to_fail_is_one_answer_after_one_verification",
        ),
        "hashes are counted; times are not compared",
    ),
    "S3": Place(
        "common passwords are refused, long ones are whole",
        (
            f"{_PEOPLE}registrations.py::test_the_judge_knows_more_than_three_thousand_common_passwords",
            f"{_PEOPLE}passwords.py::test_long_passwords_are_not_cut",
            f"{_E2E}bad_people.py::test_b43_a_password_is_taken_as_it_was_typed",
        ),
    ),
    "S4": Place(
        "guesses are limited by login and by address, and nobody is locked out for good",
        (
            f"{_PEOPLE}tries.py",
            f"{_E2E}front_guard.py::"
            "test_s4_guesses_are_counted_by_what_the_proxy_says_and_not_by_what_the_guesser_says",
        ),
        "what is counted belongs to one process",
    ),
    "S5": Place("a new token at each sign-in, the old one dead", (), waits_for=_COOKIES),
    "S6": Place("cookies that no page reads and no other site sends", (), waits_for=_COOKIES),
    "S7": Place("reset tokens are single, short and stored hashed", (), waits_for="messages to addresses"),
    "S8": Place("changes of an account ask for the password", (), waits_for="changes of an account"),
    "S9": Place(
        "no other site acts in somebody's name",
        (
            f"{_WHO}s9_nothing_a_browser_sends_by_itself_speaks_for_anybody",
            f"{_INPUT}a_body_in_the_wrong_wrapping_or_too_large_is_refused",
        ),
        "where a request comes from is not looked at, since no cookie is an identity yet",
    ),
    "S10": Place(
        "every operation says whom it answers to, and a new one has to",
        (
            f"{_WHO}every_operation_that_is_served_has_a_row_and_every_row_an_operation",
            f"{_WHO}control_an_operation_nobody_thought_of_is_found",
            f"{_WHO}what_is_personal_exists_for_its_owner_only",
            f"{_WHO}what_everybody_has_needs_a_token_and_shows_ones_own",
        ),
        "there are no calls for staff",
    ),
    "S11": Place(
        "nothing is set that a call does not name",
        (f"{_INPUT}no_field_can_be_set_that_the_call_does_not_name",),
    ),
    "S12": Place(
        "what people write is never part of a statement, a script or a line of the log",
        (
            "tests/unit/test_statements.py",
            "tests/unit/test_log_lines.py",
            f"{_E2E}bad_addresses.py::test_b49_what_is_a_command_elsewhere_is_only_text_here",
            f"{_E2E}bad_people.py::test_b46_a_name_may_be_what_people_have_and_is_only_text",
        ),
    ),
    "S13": Place(
        "answers say what they are, and pages run nothing that is not ours",
        (
            f"{_HEADERS}s13_s14_every_answer_is_closed_and_what_is_personal_is_kept_by_nobody",
            f"{_HEADERS}s13_pages_and_probes_are_closed_too",
        ),
        "of the documentation, the only pages there are; no browser is run, and HTTPS is the proxy's",
    ),
    "S14": Place(
        "no other site reads answers, and no cache keeps what is personal",
        (
            f"{_HEADERS}s14_no_site_elsewhere_is_invited",
            f"{_HEADERS}s14_what_may_be_kept_is_the_same_for_everybody",
        ),
    ),
    "S15": Place(
        "no request is smuggled in another",
        (
            f"{_HTTP}smuggling.py",
            f"{_HTTP}upgrades.py",
            f"{_HTTP}plain_requests.py",
            f"{_E2E}bad_bytes.py",
        ),
        "behind no proxy",
    ),
    "S16": Place(
        "slow and huge requests keep nobody out",
        (
            f"{_E2E}front_guard.py::test_p18_a_crowd_that_only_sits_there_keeps_nobody_out",
            f"{_E2E}bad_bytes.py::test_b14_who_only_drips_is_ended_while_others_are_served",
            f"{_HTTP}bodies.py::test_b10_a_bomb_is_too_large_and_never_inflated_whole",
        ),
    ),
    "S17": Place(
        "whose a request is, only a proxy that is trusted may say",
        ("tests/unit/test_peers.py", f"{_E2E}front_guard.py"),
    ),
    "S18": Place(
        "people are sent only where they may be sent",
        (
            "tests/unit/gateways/test_pay_page.py::test_people_are_sent_nowhere_else",
            f"{_E2E}bad_moments.py::test_a_way_back_that_is_no_web_address_opens_no_payment",
        ),
        "by the sandbox gateway's page, which has the list; ours has no page that sends anybody anywhere",
    ),
    "S19": Place(
        "no address that somebody gave is asked by us",
        (),
        waits_for="addresses of partners, the first we would ask",
    ),
    "S20": Place(
        "no card comes near us",
        (
            f"{_E2E}bad_people.py::test_b47_the_number_of_a_card_is_refused_by_a_code_of_its_own",
            f"{_INPUT}no_field_can_be_set_that_the_call_does_not_name",
            f"{_HEADERS}s13_pages_and_probes_are_closed_too",
        ),
    ),
    "S21": Place(
        "prices are our own, and what was paid is compared",
        (
            f"{_E2E}bad_webhooks.py::test_signed_events_that_fit_nothing_have_no_effect",
            "tests/integration/checkout/test_payments.py::"
            "test_another_amount_is_never_fulfilled_and_a_person_has_to_look",
            "tests/integration/checkout/test_commits.py::test_the_frozen_price_is_what_the_order_costs",
        ),
    ),
    "S22": Place(
        "coming back from the gateway proves nothing",
        (f"{_E2E}bad_moments.py::test_s22_who_only_comes_back_from_the_gateway_has_paid_nothing",),
    ),
    "S23": Place(
        "webhooks are signed, recent, small and done once",
        (
            "tests/unit/gateways/test_standard_webhooks.py",
            f"{_E2E}bad_webhooks.py",
            "tests/integration/checkout/test_payments.py::test_fifty_identical_webhooks_at_once_capture_once",
        ),
        "they have no rate of their own",
    ),
}
