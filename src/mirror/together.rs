//! Waiting for several masters at once.

use std::future::Future;
use std::task::Poll;

/// Runs futures side by side in this task, and gives their results in order once all are done.
pub(super) async fn together<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut all_done = true;
        for (future, output) in running.iter_mut().filter(|(_, output)| output.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(done) => *output = Some(done),
                Poll::Pending => all_done = false,
            }
        }
        if all_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}

#[cfg(test)]
mod tests {
    use super::together;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn results_come_in_order_whoever_ends_first() {
        let (tell, told) = oneshot::channel();
        let first = async { told.await.unwrap_or(0) };
        let second = async {
            tell.send(1).unwrap();
            2
        };
        let futures: Vec<std::pin::Pin<Box<dyn Future<Output = u32>>>> = vec![Box::pin(first), Box::pin(second)];
        assert_eq!(together(futures).await, [1, 2]);
        assert_eq!(together(Vec::<std::future::Ready<u32>>::new()).await, [0; 0]);
    }
}
