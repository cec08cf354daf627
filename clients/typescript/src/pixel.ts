import { createHmac } from "node:crypto";

/** An event to be counted by a signed address. With its id it counts once, however often the address is fetched. */
export interface Pixel {
  user: string;
  da: string;
  id: string;
  keys?: string[];
  kind?: string;
  /** Instants in ms since 1970: now, and an hour later, unless told otherwise. At most 7 days lie between them. */
  iat?: number;
  exp?: number;
}

/**
 * The path of the pixel, `/i.gif?e=..&s=..`, signed where the ad is served: no call is made. Macros of players go behind it, as
 * `&t=[TIMESTAMP]`.
 */
export function signPixel(kid: string, secret: string, pixel: Pixel): string {
  const iat = pixel.iat ?? Date.now();
  const claims = {
    u: pixel.user,
    d: pixel.da,
    i: pixel.id,
    k: pixel.keys?.length ? pixel.keys : undefined,
    n: pixel.kind,
    iat,
    exp: pixel.exp ?? iat + 3_600_000,
    kid,
  };
  const event = Buffer.from(JSON.stringify(claims)).toString("base64url");
  const mac = createHmac("sha256", secret).update(event).digest().subarray(0, 16);
  return `/i.gif?e=${event}&s=${mac.toString("base64url")}`;
}
