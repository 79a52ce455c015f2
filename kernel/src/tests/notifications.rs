//! Notifications: sticky bits, waits for them alone and together with an endpoint.

use super::Run;
use super::ipc::NONE;
use abi::ipc::{FOREVER, Tag};
use abi::{Call, Error, Rights};
use arch_model::profile::Profile;

/// Bits stay until they are taken, all of them at once; a waiter gets them, and a bound thread that
/// receives.
#[test]
fn ipc_9_notifications() {
    let mut run = Run::boot(Profile::Minimal);
    let main = run.user();
    let (endpoint, notification) = (run.endpoint(), run.notification());
    assert_eq!(run.result(Call::NotificationSignal, &[notification, 1]), Ok(0));
    assert_eq!(run.result(Call::NotificationSignal, &[notification, 4]), Ok(0));
    assert_eq!(run.result(Call::NotificationWait, &[notification, FOREVER]), Ok(5));
    assert_eq!(run.result(Call::NotificationWait, &[notification, 0]), Err(Error::TimedOut));
    let other = run.thread();
    run.to(other);
    run.call(Call::NotificationWait, &[notification, FOREVER]);
    assert_eq!(run.result(Call::NotificationSignal, &[notification, 0]), Ok(0));
    run.call(Call::Yield, &[]);
    assert_eq!(run.user(), main, "no bit, no signal");
    assert_eq!(run.result(Call::NotificationSignal, &[notification, 8]), Ok(0));
    run.to(other);
    assert_eq!(run.returned(), Ok(8));
    // Bound: before it receives, and while it does.
    assert_eq!(run.result(Call::NotificationBind, &[notification]), Ok(0));
    assert_eq!(run.result(Call::NotificationSignal, &[notification, 2]), Ok(0));
    let notified = |run: &Run| run.received().map(|received| (received.tag, received.badge));
    let with = |bits| Ok((Tag(Tag::NOTIFIED), bits));
    run.receive(endpoint);
    assert_eq!(notified(&run), with(2));
    run.receive(endpoint);
    assert_eq!(run.user(), main);
    assert_eq!(run.result(Call::NotificationBind, &[notification]), Err(Error::BadArgument));
    assert_eq!(run.result(Call::NotificationSignal, &[notification, 6]), Ok(0));
    run.to(other);
    assert_eq!(notified(&run), with(6));
    // No more.
    assert_eq!(run.result(Call::NotificationBind, &[NONE]), Ok(0));
    run.receive(endpoint);
    assert_eq!(run.result(Call::NotificationSignal, &[notification, 1]), Ok(0));
    run.call(Call::Yield, &[]);
    assert_eq!(run.user(), main);
    assert_eq!(run.result(Call::NotificationBind, &[notification]), Ok(0));
    // A thread that ends leaves it.
    run.send(Call::EndpointSend, endpoint, 0, &[]);
    run.to(other);
    assert_eq!(run.result(Call::NotificationBind, &[NONE]), Ok(0));
    run.to(main);
    assert_eq!(run.result(Call::NotificationBind, &[NONE]), Ok(0));
    run.to(other);
    assert_eq!(run.result(Call::NotificationBind, &[notification]), Ok(0));
    run.call(Call::ThreadExit, &[]);
    assert_eq!(run.user(), main);
    assert_eq!(run.result(Call::NotificationBind, &[notification]), Ok(0));
}

/// What is signalled goes to a bound thread as long as its process has the handle by which it was bound:
/// whether it receives already or begins to, and another can have the notification afterwards.
#[test]
fn ipc_9_a_binding_ends_with_its_handle() {
    for receives in [false, true] {
        let mut run = Run::boot(Profile::Minimal);
        let main = run.user();
        let (endpoint, notification) = (run.endpoint(), run.notification());
        let copy = [notification, Rights::READ.bits().into(), 0];
        let lent = run.result(Call::HandleCopy, &copy).expect("a slot");
        let other = run.thread();
        run.to(other);
        assert_eq!(run.result(Call::NotificationBind, &[lent]), Ok(0));
        if receives {
            run.receive(endpoint);
        }
        run.to(main);
        assert_eq!(run.eventually(Call::HandleRevoke, &[notification]), Ok(0));
        assert_eq!(run.result(Call::NotificationSignal, &[notification, 1]), Ok(0));
        if !receives {
            run.to(other);
            run.receive(endpoint);
        }
        for _ in 0..5 {
            run.call(Call::Yield, &[]);
            assert_eq!(run.user(), main, "it heard of the signal");
        }
        assert_eq!(run.result(Call::NotificationBind, &[notification]), Ok(0));
        run.receive(endpoint);
        assert_eq!(run.received().map(|received| received.badge), Ok(1));
    }
}

/// When nobody can signal any more, those who wait hear it.
#[test]
fn ipc_9_the_end_of_a_notification() {
    let mut run = Run::boot(Profile::Minimal);
    let main = run.user();
    let notification = run.notification();
    let waits = run.result(Call::HandleCopy, &[notification, Rights::READ.bits().into(), 0]).expect("a slot");
    let other = run.thread();
    run.to(other);
    run.call(Call::NotificationWait, &[waits, FOREVER]);
    assert_eq!(run.user(), main);
    assert_eq!(run.result(Call::HandleClose, &[notification]), Ok(0));
    run.to(other);
    assert_eq!(run.returned(), Err(Error::Gone));
    assert_eq!(run.result(Call::NotificationWait, &[waits, FOREVER]), Err(Error::Gone));
}
