// What the journeys count: a small day of a service.
export const HOUR = 3_600_000;
export const DAY = 24 * HOUR;

/** A user whose id would be a script if it were not text. */
export const MARKUP = '<img src=x onerror="alert(1)">';

/** Events of many users on three campaigns, over a day; some users see far too much. */
export function day(now, users = 400) {
  const events = [];
  for (let user = 0; user < users; user += 1) {
    // A few see it often, most once or twice.
    const times = Math.max(1, Math.floor(14 / (1 + (user % 40))));
    for (let n = 0; n < times; n += 1) {
      const campaign = 1 + ((user + n) % 3);
      const ts = now - Math.floor(((user * 7919 + n * 104_729) % 1000) / 1000 * 23 * HOUR) - 1000;
      events.push({ user: `u${user}`, da: `${campaign}0${n % 2}`, ts, id: `e-${user}-${n}`, keys: [`campaign:${campaign}`, "advertiser:7"] });
    }
  }
  return events;
}

/** A user with a history worth a look: capped on one ad, close to it on others. */
export function history(user, now) {
  const of = (da, campaign, hours, kind) => hours.map((hour, n) => ({ user, da, ts: now - Math.round(hour * HOUR), id: `${user}-${da}-${n}-${kind ?? "i"}`, kind, keys: [`campaign:${campaign}`] }));
  return [
    ...of("77", 42, [70, 52, 30, 26, 4]),
    ...of("78", 42, [90, 12]),
    ...of("90", 7, [20, 19.5, 19, 3, 2, 1, 0.5]),
    ...of("77", 42, [4], "click"),
    ...of("<b>bold</b>", 7, [8]),
  ];
}
