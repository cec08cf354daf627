// Data that a view loads, with its states.
import { useCallback, useEffect, useRef, useState } from "./dom.js";
import { lostSince } from "./api.js";

/**
 * Runs `load(signal, onProgress)` when `deps` change, and gives {data, problem, isLoading, progress, reload}. What was there stays
 * while the same is loaded anew, or, with `isPaged`, while another is. It is loaded again by itself when the service is back.
 */
export function useLoad(load, deps, { isOn = true, isPaged = false } = {}) {
  const [state, setState] = useState({ isLoading: isOn });
  const [turn, setTurn] = useState(0);
  const kept = useRef(null);
  useEffect(() => {
    if (!isOn) {
      kept.current = null;
      setState({ isLoading: false });
      return undefined;
    }
    const cancel = new AbortController();
    const isSame = isPaged || (kept.current && sameDeps(kept.current.deps, deps));
    setState((before) => ({ data: isSame ? before.data : undefined, isLoading: true }));
    const onProgress = (progress) => {
      if (!cancel.signal.aborted) setState((before) => ({ ...before, progress }));
    };
    load(cancel.signal, onProgress).then(
      (data) => {
        if (cancel.signal.aborted) return;
        kept.current = { deps };
        setState({ data, isLoading: false });
      },
      (problem) => {
        if (!cancel.signal.aborted) setState((before) => ({ data: before.data, problem, isLoading: false }));
      },
    );
    return () => cancel.abort();
  }, [...deps, turn, isOn]);
  const reload = useCallback(() => setTurn((turn) => turn + 1), []);
  const isLost = lostSince.value !== null;
  const wasLost = useRef(false);
  useEffect(() => {
    if (wasLost.current && !isLost && state.problem?.code === "no_answer") reload();
    wasLost.current = isLost;
  }, [isLost]);
  return { ...state, reload };
}

const sameDeps = (one, other) => one.length === other.length && one.every((value, at) => Object.is(value, other[at]));
