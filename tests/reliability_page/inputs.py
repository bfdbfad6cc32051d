"""Which bad input is answered how, and which tests send it.

The status of an answer is that of its codes in `kernel.codes`, so it is not said here. Every code there is
stands in one of the two tables, and is asserted in a file that is named.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class BadInput(NamedTuple):
    """What is sent, the codes of its answers, and the tests that send it.

    No tests: `waits_for` says what is not there yet. `answer` is what comes where it is no refusal, `but` is
    what the tests leave out, or why the answer is another than one would think.
    """

    what: str
    codes: tuple[str, ...]
    where: tuple[str, ...]
    answer: str = ""
    but: str = ""
    waits_for: str = ""


_HTTP: Final = "tests/unit/http/test_"
_BODIES: Final = f"{_HTTP}bodies.py::test_"
_CONNECTIONS: Final = f"{_HTTP}connections.py::test_"
_ACCOUNTS: Final = "tests/integration/test_accounts_http.py::test_"
_E2E: Final = "tests/e2e/test_"
_INPUT: Final = f"{_E2E}bad_input.py::test_"
_BYTES: Final = f"{_E2E}bad_bytes.py::test_"
_ADDRESSES: Final = f"{_E2E}bad_addresses.py::test_"
_SEATS: Final = f"{_E2E}bad_seats.py::test_"
_MOMENTS: Final = f"{_E2E}bad_moments.py::test_"
_REPEATS: Final = f"{_E2E}bad_repeats.py::test_"
_PEOPLE: Final = f"{_E2E}bad_people.py::test_"
_WEBHOOKS: Final = f"{_E2E}bad_webhooks.py::test_"
_WHO: Final = f"{_E2E}authorisation.py::test_"
_FAULTS: Final = f"{_E2E}faults.py::test_"
_PURCHASE: Final = f"{_E2E}purchase.py::test_"

_NO_DOCUMENT: Final = f"{_INPUT}a_body_that_is_not_one_json_document_is_refused"
_WRAPPING: Final = f"{_INPUT}a_body_in_the_wrong_wrapping_or_too_large_is_refused"
_NO_OTHER_FIELD: Final = f"{_INPUT}no_field_can_be_set_that_the_call_does_not_name"
_FIELDS_OF_PEOPLE: Final = f"{_PEOPLE}b43_to_b46_a_field_nobody_should_have_is_named_and_not_repeated"
_PAID_OR_NOT: Final = f"{_MOMENTS}b33_what_was_paid_is_not_paid_again_and_what_was_not_is_not_refunded"

BAD_INPUTS: Final[dict[str, BadInput]] = {
    "B1": BadInput(
        "no JSON, or not one document of it",
        ("malformed_json",),
        (_NO_DOCUMENT, f"{_BODIES}b1_what_is_not_json_is_said_to_be_not_json"),
    ),
    "B2": BadInput(
        "NaN, Infinity, 1e999",
        ("malformed_json",),
        (_NO_DOCUMENT, f"{_BODIES}b2_numbers_json_does_not_have_are_malformed"),
    ),
    "B3": BadInput(
        "nested without end",
        ("malformed_json",),
        (_NO_DOCUMENT, f"{_BODIES}b3_deep_nesting_is_malformed_and_harmless"),
    ),
    "B4": BadInput(
        "a field named twice",
        ("duplicate_key",),
        (_NO_DOCUMENT, f"{_BODIES}b4_a_field_named_twice_is_refused"),
    ),
    "B5": BadInput(
        "control characters, half a pair",
        ("validation_failed",),
        (f"{_INPUT}control_characters_and_half_pairs_are_refused_in_every_text",),
    ),
    "B6": BadInput(
        "a value of another kind or size",
        ("validation_failed",),
        (f"{_INPUT}a_value_of_the_wrong_kind_or_size_is_refused_in_every_field",),
    ),
    "B7": BadInput("a field the call does not know", ("unknown_field",), (_NO_OTHER_FIELD,)),
    "B8": BadInput("another Content-Type, or none", ("unsupported_media_type",), (_WRAPPING,)),
    "B9": BadInput(
        "whoever cannot take JSON",
        ("not_acceptable",),
        (
            f"{_INPUT}who_cannot_take_the_answer_is_told_so",
            f"{_HTTP}answers.py",
            f"{_HTTP}heads.py::test_b9_an_accept_header_too_long_is_neither_read_nor_remembered",
        ),
    ),
    "B10": BadInput(
        "a body too large, a bomb",
        ("payload_too_large",),
        (
            _WRAPPING,
            f"{_BODIES}b10_a_bomb_is_too_large_and_never_inflated_whole",
            f"{_WEBHOOKS}b52_a_body_too_large_is_refused_before_it_is_judged",
        ),
    ),
    "B11": BadInput(
        "a request line too long", ("uri_too_long",), (f"{_BYTES}b11_a_request_line_has_an_end",)
    ),
    "B12": BadInput(
        "headers or trailers too large or too many",
        ("headers_too_large",),
        (
            f"{_BYTES}b12_headers_and_trailers_have_a_size_and_a_number",
            f"{_BYTES}b12_a_head_has_a_size_as_a_whole",
            f"{_CONNECTIONS}b12_what_stands_behind_a_body_has_a_size_and_a_number",
            f"{_HTTP}heads.py::test_b12_a_head_has_a_size_as_a_whole",
            f"{_HTTP}heads.py::test_b12_a_head_that_does_not_end_is_refused_where_it_grows_too_large",
        ),
    ),
    "B13": BadInput(
        "what two readers would cut differently",
        ("bad_request",),
        (
            f"{_BYTES}b13_what_could_be_read_in_two_ways_is_refused_and_the_end",
            f"{_BYTES}b13_broken_chunks_end_the_connection",
            f"{_HTTP}smuggling.py",
            f"{_HTTP}upgrades.py",
            f"{_CONNECTIONS}b13_what_is_not_http_is_refused_quietly",
        ),
        but="behind no proxy",
    ),
    "B14": BadInput(
        "slow headers, slow bodies, silence",
        ("request_timeout",),
        (
            f"{_BYTES}b14_who_only_drips_is_ended_while_others_are_served",
            f"{_CONNECTIONS}b14_a_header_that_drips_ends_with_its_deadline_on_any_request",
            f"{_CONNECTIONS}b14_a_body_must_keep_a_pace",
        ),
        but="who has not sent a header has asked nothing and is only ended",
    ),
    "B15": BadInput(
        "an address of nothing",
        ("not_found",),
        (
            f"{_ADDRESSES}an_address_beside_the_right_one_leads_nowhere",
            f"{_HTTP}addresses.py::test_b15_where_nothing_is_nothing_is_found",
        ),
    ),
    "B16": BadInput(
        "another method",
        ("method_not_allowed",),
        (
            f"{_ADDRESSES}b16_a_method_an_address_does_not_have_is_refused_with_those_it_has",
            f"{_HTTP}addresses.py::test_b16_methods_without_a_path_are_refused_too",
        ),
    ),
    "B17": BadInput(
        "an id of another shape, or of another kind of thing",
        ("not_found", "unknown_gateway"),
        (
            f"{_ADDRESSES}b17_an_id_of_no_shape_is_the_id_of_nothing",
            f"{_ADDRESSES}the_id_of_another_kind_of_thing_is_not_found",
        ),
    ),
    "B18": BadInput(
        "seats that make no sense",
        ("validation_failed", "unknown_seat", "duplicate_seat", "too_many_seats", "unknown_area"),
        (
            f"{_SEATS}a_wish_that_makes_no_sense_is_refused",
            f"{_SEATS}seats_of_another_hall_are_unknown_here",
        ),
    ),
    "B19": BadInput(
        "a seat somebody has",
        ("seat_taken",),
        (f"{_PURCHASE}a_loser_is_offered_the_nearest_equivalents", f"{_E2E}storm.py"),
    ),
    "B20": BadInput("a full house", ("sold_out",), (f"{_SEATS}a_full_house_is_sold_out_for_any_wish",)),
    "B21": BadInput(
        "a sale that is not open, or no longer",
        ("sale_not_open", "sale_closed"),
        (
            f"{_MOMENTS}b21_a_sale_that_is_not_open_says_when_it_opens",
            f"{_MOMENTS}b21_a_sale_closes_at_its_instant",
            f"{_MOMENTS}a_closed_sale_sells_nothing",
        ),
        but="showtimes cannot be cancelled yet; one that has begun is sold until its sale closes",
    ),
    "B22": BadInput(
        "a hold that has expired",
        ("hold_expired",),
        (f"{_MOMENTS}b22_an_expired_hold_is_gone_for_every_call",),
    ),
    "B23": BadInput(
        "a hold lost in a recovery",
        ("hold_lost",),
        (
            f"{_FAULTS}a_wiped_redis_is_rebuilt_from_postgres",
            "tests/contract/test_built_anew.py::test_after_losses_an_unknown_hold_is_called_lost_for_a_while",
        ),
    ),
    "B24": BadInput(
        "a thing of somebody else",
        ("not_found",),
        (
            f"{_WHO}what_is_personal_exists_for_its_owner_only",
            f"{_WHO}a_strangers_answer_is_that_of_a_thing_that_never_was",
        ),
    ),
    "B25": BadInput(
        "more seats than one may have",
        ("seat_limit_exceeded",),
        (f"{_SEATS}who_has_as_many_as_allowed_gets_no_more", "tests/races/test_holds.py"),
        but="of an account; what several accounts pay with is not compared",
    ),
    "B26": BadInput(
        "no key, or no good one",
        ("idempotency_key_missing", "idempotency_key_invalid"),
        (f"{_INPUT}a_call_with_an_effect_needs_one_good_key",),
    ),
    "B27": BadInput(
        "a key that came with another request",
        ("idempotency_key_reused",),
        (
            f"{_REPEATS}b27_a_key_belongs_to_one_request",
            f"{_REPEATS}b27_the_same_words_about_another_thing_are_another_request",
        ),
    ),
    "B28": BadInput(
        "a twin while the first runs",
        ("request_in_progress",),
        (
            f"{_FAULTS}b28_a_twin_of_an_order_on_its_way_is_told_to_come_again",
            "tests/integration/checkout/test_request_guard.py",
        ),
    ),
    "B29": BadInput(
        "the key of somebody else",
        (),
        (f"{_WHO}b29_the_same_key_of_somebody_else_is_another_key",),
        answer="another key",
    ),
    "B30": BadInput("a price, a currency, a discount", ("unknown_field",), (_NO_OTHER_FIELD,)),
    "B31": BadInput(
        "a price that changed since it was shown", (), (), waits_for="prices that change during a sale"
    ),
    "B32": BadInput("a coupon that is not good", (), (), waits_for="coupons"),
    "B33": BadInput("paid twice", ("already_paid",), (_PAID_OR_NOT,)),
    "B34": BadInput(
        "a step left out", ("invalid_state",), (_PAID_OR_NOT,), but="no call confirms: only money does"
    ),
    "B35": BadInput(
        "given back too late, or twice",
        ("refund_not_allowed", "already_refunded", "payment_charged_back"),
        (
            f"{_MOMENTS}b35_once_the_film_has_begun_nothing_is_refunded",
            _PAID_OR_NOT,
            "tests/integration/checkout/test_refunds.py::test_an_order_with_a_used_ticket_is_not_given_back",
            "tests/integration/audit/test_chargebacks.py::"
            "test_a_refund_is_refused_with_a_code_of_its_own_until_we_win",
        ),
        but="orders are given back whole, so nobody can ask for more than was paid",
    ),
    "B36": BadInput(
        "no token", ("not_authenticated",), (f"{_WHO}what_is_personal_exists_for_its_owner_only",)
    ),
    "B37": BadInput(
        "a token that is not good",
        ("not_authenticated",),
        (f"{_WHO}b37_whatever_is_wrong_with_a_token_the_answer_is_the_same", "tests/unit/test_tokens.py"),
    ),
    "B38": BadInput("a call for staff", ("forbidden",), (), waits_for="calls for staff"),
    "B39": BadInput(
        "a request from another site",
        ("not_authenticated",),
        (f"{_WHO}s9_nothing_a_browser_sends_by_itself_speaks_for_anybody",),
        but="no cookie is an identity yet, so there is nothing to ride on",
    ),
    "B40": BadInput(
        "no entry pass, or no good one", ("entry_pass_required",), (), waits_for="the waiting room"
    ),
    "B41": BadInput("a place in the queue asked for too often", (), (), waits_for="the waiting room"),
    "B42": BadInput(
        "a login or password that is wrong",
        ("invalid_credentials", "rate_limited"),
        (
            f"{_WHO}no_account_and_a_wrong_password_are_the_same_answer",
            f"{_ACCOUNTS}every_failed_sign_in_is_the_same_answer",
            f"{_ACCOUNTS}s4_a_login_nobody_has_is_limited_in_the_same_words",
        ),
    ),
    "B43": BadInput(
        "a password too short, too long or too common",
        ("validation_failed",),
        (_FIELDS_OF_PEOPLE, f"{_PEOPLE}b43_a_password_is_taken_as_it_was_typed"),
    ),
    "B44": BadInput(
        "an e-mail address that harms or deceives",
        ("validation_failed",),
        (
            _FIELDS_OF_PEOPLE,
            f"{_PEOPLE}b44_an_address_written_in_another_way_is_the_same_account",
            f"{_PEOPLE}b44_an_address_that_only_looks_the_same_is_another_account",
        ),
        but="addresses with a tag are accounts of their own",
    ),
    "B45": BadInput(
        "a telephone number written oddly",
        ("validation_failed",),
        (_FIELDS_OF_PEOPLE, f"{_PEOPLE}b45_a_number_written_in_another_way_is_the_same_account"),
    ),
    "B46": BadInput(
        "a name that harms or deceives",
        ("validation_failed",),
        (_FIELDS_OF_PEOPLE, f"{_PEOPLE}b46_a_name_may_be_what_people_have_and_is_only_text"),
        but="nothing is written as CSV yet",
    ),
    "B47": BadInput(
        "a card's number",
        ("card_data_refused",),
        (
            f"{_PEOPLE}b47_the_number_of_a_card_is_refused_by_a_code_of_its_own",
            f"{_ACCOUNTS}b47_a_card_number_is_refused_and_neither_kept_nor_logged_nor_said",
        ),
    ),
    "B48": BadInput(
        "a cursor or a page that is not ours",
        ("invalid_cursor",),
        (
            f"{_ADDRESSES}b48_a_cursor_that_is_not_ours_is_refused",
            f"{_ADDRESSES}a_forged_cursor_reaches_nothing",
            f"{_ADDRESSES}a_page_is_never_larger_than_the_largest",
        ),
    ),
    "B49": BadInput(
        "commands of SQL and Redis",
        ("validation_failed",),
        (
            f"{_ADDRESSES}b49_what_is_a_command_elsewhere_is_only_text_here",
            f"{_ADDRESSES}everything_odd_in_a_query_is_refused_by_name",
        ),
    ),
    "B50": BadInput(
        "a header in a name",
        ("validation_failed",),
        (_FIELDS_OF_PEOPLE, f"{_HTTP}wire.py::test_a_value_cannot_end_the_head_early"),
    ),
    "B51": BadInput(
        "a parameter given twice",
        ("duplicate_parameter",),
        (f"{_ADDRESSES}everything_odd_in_a_query_is_refused_by_name",),
    ),
    "B52": BadInput(
        "a webhook that is not the gateway's",
        ("webhook_signature_invalid", "webhook_timestamp_invalid"),
        (
            f"{_WEBHOOKS}b52_what_is_not_signed_by_the_gateway_is_refused",
            f"{_WEBHOOKS}b52_a_delivery_of_another_time_is_refused",
            f"{_WEBHOOKS}signed_events_that_fit_nothing_have_no_effect",
        ),
    ),
    "B53": BadInput(
        "a webhook about an unknown payment",
        (),
        ("tests/integration/checkout/test_over_http.py::test_news_of_an_unknown_payment_are_taken_and_kept",),
        answer="200, kept",
    ),
    "B54": BadInput("a ticket code that is not good", (), (), waits_for="admission at the door"),
    "B55": BadInput(
        "dates nobody means",
        ("validation_failed",),
        (
            f"{_ADDRESSES}b55_headers_nobody_asked_for_change_nothing",
            f"{_ADDRESSES}b49_what_is_a_command_elsewhere_is_only_text_here",
        ),
        answer="in a header: not looked at",
    ),
    "B56": BadInput(
        "ranges, ten thousand parts",
        ("unsupported_media_type",),
        (
            f"{_CONNECTIONS}b56_ten_thousand_parts_are_one_body_of_the_wrong_kind",
            f"{_CONNECTIONS}b56_a_range_is_not_looked_at",
            _WRAPPING,
        ),
    ),
    "B57": BadInput(
        "thousands of requests in one go",
        (),
        (
            f"{_BYTES}b57_pipelined_requests_are_answered_in_their_order",
            f"{_CONNECTIONS}b57_ten_thousand_pipelined_requests_are_served_in_order_and_in_bounded_memory",
            f"{_CONNECTIONS}b57_who_does_not_read_the_answers_is_not_served_on",
            f"{_HTTP}shedding.py",
        ),
        answer="their answers, in order",
    ),
    "B58": BadInput(
        "more than can be served",
        ("overloaded",),
        (
            f"{_HTTP}overload.py",
            f"{_HTTP}shedding.py",
            f"{_HTTP}retry_after.py::test_no_wait_is_the_same_for_everybody",
            "tests/integration/checkout/test_behind.py",
        ),
    ),
    "B59": BadInput(
        "a store that is away or being rebuilt",
        ("inventory_rebuilding", "seats_unavailable", "persistence_unavailable"),
        (
            f"{_FAULTS}a_wiped_redis_is_rebuilt_from_postgres",
            f"{_FAULTS}while_redis_is_frozen_nothing_is_sold_and_everything_else_is_shown",
            f"{_FAULTS}while_postgres_is_frozen_seats_can_be_held_but_not_ordered",
        ),
    ),
    "B60": BadInput(
        "an outcome nobody knows yet",
        (),
        (f"{_FAULTS}while_the_writer_is_frozen_an_order_is_accepted_not_created",),
        answer="202 and where to look",
    ),
    "B61": BadInput(
        "a bug of ours",
        ("internal_error",),
        (f"{_HTTP}answers.py::test_b61_a_broken_handler_says_nothing_of_the_inside", "tests/e2e/conftest.py"),
    ),
}

#: Refusals that are no bad input: the request is good, and something is in its way.
BESIDES: Final[dict[str, BadInput]] = {
    "orphan_seat": BadInput(
        "a choice that leaves a seat alone",
        ("orphan_seat",),
        (f"{_PURCHASE}a_choice_that_strands_a_seat_is_refused_with_a_shifted_one",),
    ),
    "hold_claimed": BadInput("a hold that has become an order", ("hold_claimed",), (_PAID_OR_NOT,)),
    "hold_not_extendable": BadInput(
        "a hold that has its longest life",
        ("hold_not_extendable",),
        (f"{_MOMENTS}a_hold_that_has_its_longest_life_is_not_extended",),
    ),
    "order_expired": BadInput(
        "an order whose time is over",
        ("order_expired",),
        (f"{_MOMENTS}an_order_whose_time_is_over_takes_no_payment",),
    ),
    "too_many_payments": BadInput(
        "an order that was tried to be paid too often",
        ("too_many_payments",),
        (
            "tests/integration/checkout/test_over_http.py::"
            "test_who_tries_to_pay_too_often_is_refused_and_nothing_is_kept_of_it",
            "tests/integration/checkout/test_growth.py::test_an_order_is_tried_to_be_paid_so_often_and_no_more",
        ),
    ),
    "account_exists": BadInput(
        "a login somebody has",
        ("account_exists",),
        (f"{_WHO}registering_and_signing_in_need_no_token_and_give_one",),
    ),
    "gateway_unavailable": BadInput(
        "a gateway that does not answer",
        ("gateway_unavailable",),
        (
            "tests/integration/checkout/test_over_http.py::"
            "test_a_gateway_that_is_not_itself_is_503_and_the_retry_opens_one_session",
        ),
    ),
    "too_late": BadInput(
        "what Redis came to when nobody waited any more",
        ("too_late",),
        (
            "tests/integration/reservation/test_late_execution.py::test_over_http_it_is_a_503_that_says_when_to_come_again",
        ),
    ),
    "engines_unsafe": BadInput(
        "stores that may forget",
        ("engines_unsafe",),
        (
            "tests/integration/postgres/test_fitness.py::"
            "test_the_api_goes_on_answering_and_sells_nothing_until_the_setting_is_mended",
        ),
    ),
    "seat_not_blocked": BadInput(
        "a seat put on sale that was never off it",
        ("seat_not_blocked",),
        ("tests/contract/test_seat_inventory.py",),
        but="on the command line; there is no call for it",
    ),
}
