"""Attacks on the lists of a session: keys, shares, uploads, survivors."""

from fedmedlora_audit import event_data as of
from fedmedlora_testkit.audit_attacks.registry import ZERO, attack, by_coordinator, by_site
from fedmedlora_testkit.audit_log import StudyLog

# -- opening and keys


@attack("G33")
def session_below_the_threshold(log: StudyLog) -> bytes:
    log.set_up().plan()
    for name in log.sites:
        log.accept_plan(name)
        log.ready(name)
    return by_coordinator(log, "session.opened", log.opening(["site-a", "site-b"]))


@attack("R2")
def session_with_a_site_that_is_not_ready(log: StudyLog) -> bytes:
    log.set_up().plan()
    for name in log.sites[:3]:
        log.accept_plan(name)
        log.ready(name)
    return by_coordinator(log, "session.opened", log.opening(log.sites))


@attack("G36")
def session_id_from_elsewhere(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    return by_coordinator(log, "session.opened", log.opening(sid=ZERO))


@attack("G33")
def session_without_masks(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    return by_coordinator(log, "session.opened", log.opening(suite="plain/1"))


@attack("A2")
def session_over_another_base(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    return by_coordinator(log, "session.opened", log.opening(base=ZERO))


@attack("R1")
def attempt_number_skipped(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    return by_coordinator(log, "session.opened", log.opening(attempt=3))


@attack("R1")
def session_for_a_purpose_outside_the_charter(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    return by_coordinator(log, "session.opened", log.opening(purpose="score"))


@attack("G13")
def new_attempt_after_an_opening(log: StudyLog) -> bytes:
    log.set_up().to_step("unmask")
    log.respond("site-a")
    return by_coordinator(log, "session.opened", log.opening())


@attack("R2")
def keys_from_a_site_outside_the_session(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise", {"train": ["site-d"]})
    return by_site(log, "site-d", "keys.advertised", of.InSession(sid=log.session.sid), "keys")


@attack("R3")
def keys_twice(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    log.advertise("site-a")
    return by_site(log, "site-a", "keys.advertised", of.InSession(sid=log.session.sid), "keys")


@attack("G37")
def keys_while_an_earlier_session_is_not_erased(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    log.open_session()
    return by_site(log, "site-a", "keys.advertised", of.InSession(sid=log.session.sid), "keys")


@attack("G36")
def answer_in_a_session_never_opened(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    return by_site(log, "site-a", "update.submitted", log.update_data(sid=ZERO), "masked-update")


@attack("G36")
def list_of_a_session_never_opened(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    return by_coordinator(log, "survivors.fixed", log.u3_data(sid=ZERO))


@attack("G37")
def list_of_an_earlier_session(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    for name in log.sites:
        log.upload(name)
    data = log.u3_data()
    log.open_session()
    return by_coordinator(log, "survivors.fixed", data)


@attack("G35")
def u1_with_swapped_keys(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    for name in log.sites:
        log.advertise(name)
    rows = log.rows(log.session.advertised)
    u1 = (rows[0].model_copy(update={"digest": ZERO}), *rows[1:])
    return by_coordinator(log, "keys.broadcast", log.u1_data(u1=u1))


@attack("G35")
def u1_with_an_invented_site(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    for name in log.sites[:3]:
        log.advertise(name)
    u1 = (*log.rows(log.session.advertised), of.IdDigest(id="site-d", digest=ZERO))
    return by_coordinator(log, "keys.broadcast", log.u1_data(u1=u1))


@attack("G35")
def u1_leaves_a_site_out_in_silence(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    for name in log.sites:
        log.advertise(name)
    data = log.u1_data(u1=log.rows(log.session.advertised, ["site-d"]), left_out=())
    return by_coordinator(log, "keys.broadcast", data)


@attack("G35")
def u1_calls_a_speaker_silent(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    for name in log.sites:
        log.advertise(name)
    return by_coordinator(log, "keys.broadcast", log.u1_data(u1=log.rows(log.session.advertised, ["site-d"])))


@attack("G35")
def u1_refuses_keys_that_were_never_sent(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    for name in log.sites[:3]:
        log.advertise(name)
    left = (of.LeftOut(id="site-d", reason="low_order_key"),)
    return by_coordinator(log, "keys.broadcast", log.u1_data(left_out=left))


@attack("G33")
def u1_below_the_threshold(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    for name in log.sites[:2]:
        log.advertise(name)
    return by_coordinator(log, "keys.broadcast", log.u1_data())


@attack("G36")
def view_of_another_u1(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    for name in log.sites:
        log.advertise(name)
    return by_coordinator(log, "keys.broadcast", log.u1_data(view=ZERO))


@attack("G34")
def second_broadcast(log: StudyLog) -> bytes:
    log.set_up().to_step("share")
    return by_coordinator(log, "keys.broadcast", log.u1_data())


@attack("R1")
def broadcast_of_uploads_before_shares(log: StudyLog) -> bytes:
    log.set_up().to_step("share")
    return by_coordinator(log, "survivors.fixed", log.u3_data())


# -- shares and uploads


@attack("R2")
def shares_from_outside_u1(log: StudyLog) -> bytes:
    log.set_up().to_step("share", {"advertise": ["site-d"]})
    data = of.SharesSent(sid=log.session.sid, view=log.session.view)
    return by_site(log, "site-d", "shares.sent", data, "shares")


@attack("R3")
def shares_twice(log: StudyLog) -> bytes:
    log.set_up().to_step("share")
    log.share("site-a")
    data = of.SharesSent(sid=log.session.sid, view=log.session.view)
    return by_site(log, "site-a", "shares.sent", data, "shares")


@attack("G36")
def shares_under_another_view(log: StudyLog) -> bytes:
    log.set_up().to_step("share")
    return by_site(log, "site-a", "shares.sent", of.SharesSent(sid=log.session.sid, view=ZERO), "shares")


@attack("G38")
def shares_after_erasing(log: StudyLog) -> bytes:
    log.set_up().to_step("share")
    log.erase("site-a", log.session.sid)
    data = of.SharesSent(sid=log.session.sid, view=log.session.view)
    return by_site(log, "site-a", "shares.sent", data, "shares")


@attack("U5")
def u2_with_other_shares_than_signed(log: StudyLog) -> bytes:
    log.set_up().to_step("share")
    for name in log.sites:
        log.share(name)
    rows = log.rows(log.session.shares)
    return by_coordinator(
        log, "shares.fixed", log.u2_data(u2=(rows[0].model_copy(update={"digest": ZERO}), *rows[1:]))
    )


@attack("G33")
def u2_below_the_threshold(log: StudyLog) -> bytes:
    log.set_up().to_step("share")
    for name in log.sites[:2]:
        log.share(name)
    return by_coordinator(log, "shares.fixed", log.u2_data())


@attack("G34")
def u2_without_received_shares(log: StudyLog) -> bytes:
    log.set_up().to_step("share")
    for name in log.sites:
        log.share(name)
    return by_coordinator(log, "shares.fixed", log.u2_data(u2=log.rows(log.session.shares, ["site-a"])))


@attack("G34")
def second_u2(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    return by_coordinator(log, "shares.fixed", log.u2_data(u2=log.rows(log.session.shares, ["site-a"])))


@attack("G34")
def upload_from_outside_u2(log: StudyLog) -> bytes:
    log.set_up().to_step("upload", {"share": ["site-d"]})
    return by_site(log, "site-d", "update.submitted", log.update_data(), "masked-update")


@attack("G34")
def upload_masked_with_another_u2(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    return by_site(log, "site-a", "update.submitted", log.update_data(h_u2=ZERO), "masked-update")


@attack("R3")
def upload_twice(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    log.upload("site-a")
    return by_site(log, "site-a", "update.submitted", log.update_data(), "masked-update")


@attack("R5")
def survivors_with_another_upload(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    for name in log.sites:
        log.upload(name)
    rows = log.rows(log.session.updates)
    data = log.u3_data(u3=(rows[0].model_copy(update={"digest": ZERO}), *rows[1:]))
    return by_coordinator(log, "survivors.fixed", data)


@attack("R5")
def survivors_with_an_invented_site(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    for name in log.sites[:3]:
        log.upload(name)
    u3 = (*log.rows(log.session.updates), of.IdDigest(id="site-d", digest=ZERO))
    return by_coordinator(log, "survivors.fixed", log.u3_data(u3=u3))


@attack("R6")
def survivors_without_a_received_upload(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    for name in log.sites:
        log.upload(name)
    return by_coordinator(log, "survivors.fixed", log.u3_data(u3=log.rows(log.session.updates, ["site-d"])))


@attack("R5")
def survivors_below_the_threshold(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    for name in log.sites[:2]:
        log.upload(name)
    return by_coordinator(log, "survivors.fixed", log.u3_data())


@attack("G34")
def second_survivor_set(log: StudyLog) -> bytes:
    log.set_up().to_step("survivors")
    return by_coordinator(log, "survivors.fixed", log.u3_data(u3=log.rows(log.session.updates, ["site-d"])))


@attack("G14")
def survivors_that_differ_by_one_from_an_opened_sum(log: StudyLog) -> bytes:
    log.set_up().to_step("unmask")
    log.respond("site-a")
    log.abort("operator")
    log.to_step("upload", {"upload": ["site-d"]})
    for name in log.sites[:3]:
        log.upload(name)
    return by_coordinator(log, "survivors.fixed", log.u3_data())
