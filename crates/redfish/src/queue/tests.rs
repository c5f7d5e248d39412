use super::*;
use futures::{FutureExt, future::BoxFuture};

fn enter(queue: &Arc<Queue>, priority: Priority) -> BoxFuture<'static, Place> {
    let queue = queue.clone();
    let mut future = async move { queue.enter(priority).await }.boxed();
    assert!(future.as_mut().now_or_never().is_none(), "expected to wait");
    future
}

/// Takes every place, so that what follows waits.
async fn full(queue: &Arc<Queue>) -> Place {
    queue.set_places(1);
    queue.enter(Priority::Control).await
}

fn ready(waiting: &mut Vec<(Priority, BoxFuture<'static, Place>)>) -> Option<(Priority, Place)> {
    for i in 0..waiting.len() {
        if let Some(place) = waiting[i].1.as_mut().now_or_never() {
            return Some((waiting.remove(i).0, place));
        }
    }
    None
}

#[tokio::test]
async fn power_overtakes_everything_that_waits() {
    let queue = Queue::new(2);
    let first = full(&queue).await;
    let mut waiting: Vec<_> = [
        Priority::Sensors,
        Priority::Inventory,
        Priority::Control,
        Priority::Power,
    ]
    .map(|priority| (priority, enter(&queue, priority)))
    .into();
    drop(first);
    let mut order = Vec::new();
    while let Some((priority, place)) = ready(&mut waiting) {
        order.push(priority);
        drop(place);
    }
    assert_eq!(order, Priority::ALL);
}

#[tokio::test]
async fn a_less_urgent_request_has_its_turn_after_eight_were_let_past() {
    let queue = Queue::new(2);
    let mut place = full(&queue).await;
    let mut waiting = vec![(Priority::Sensors, enter(&queue, Priority::Sensors))];
    for passed in 0.. {
        waiting.push((Priority::Power, enter(&queue, Priority::Power)));
        waiting.push((Priority::Power, enter(&queue, Priority::Power)));
        drop(place);
        let (priority, next) = ready(&mut waiting).unwrap();
        if priority == Priority::Sensors {
            assert_eq!(passed, PATIENCE);
            break;
        }
        place = next;
    }
}

#[tokio::test]
async fn at_most_two_are_in_flight() {
    let queue = Queue::new(2);
    let (_a, _b) = (
        queue.enter(Priority::Power).await,
        queue.enter(Priority::Power).await,
    );
    let _c = enter(&queue, Priority::Power);
    assert_eq!(queue.in_flight(), 2);
}

#[tokio::test]
async fn sensors_take_one_place_only() {
    let queue = Queue::new(2);
    let sensor = queue.enter(Priority::Sensors).await;
    let mut second = enter(&queue, Priority::Sensors);
    let _other = queue.enter(Priority::Inventory).await;
    drop(sensor);
    assert!(second.as_mut().now_or_never().is_some());
}

#[tokio::test]
async fn one_who_stops_waiting_neither_blocks_nor_loses_a_place() {
    let queue = Queue::new(1);
    let first = queue.enter(Priority::Power).await;
    let gone = enter(&queue, Priority::Power);
    let mut waits = enter(&queue, Priority::Power);
    drop(gone);
    drop(first);
    let place = waits.as_mut().now_or_never().unwrap();
    drop(place);
    assert_eq!(queue.in_flight(), 0);
    // Served, but dropped before it looked.
    let first = queue.enter(Priority::Power).await;
    let served = enter(&queue, Priority::Power);
    drop(first);
    drop(served);
    assert_eq!(queue.in_flight(), 0);
}

#[tokio::test]
async fn places_can_be_taken_away_and_given_back() {
    let queue = Queue::new(2);
    let (a, b) = (
        queue.enter(Priority::Power).await,
        queue.enter(Priority::Power).await,
    );
    queue.set_places(1);
    drop(a);
    let mut waits = enter(&queue, Priority::Power);
    queue.set_places(2);
    assert!(waits.as_mut().now_or_never().is_some());
    drop(b);
}
