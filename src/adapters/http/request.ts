/**
 * What is asked for: undici's dispatch options, and whether they may be asked twice.
 *
 * A request that was certainly not sent may be sent elsewhere, whatever it is, as long as its body is still whole. One
 * that may have been sent is sent again only if doing it twice does no harm, and only if its body can be had again: a
 * stream that has been read is gone. `fetch` makes a stream of every body, so of what it sends only requests without
 * one are repeated; undici's `request` hands strings and buffers over as they are.
 */

import type { Dispatcher } from "undici";

/** What undici passes to `dispatch`, with the rows that it does not name in its types. */
export type HttpRequest = Dispatcher.DispatchOptions & { readonly servername?: string | null };

/** Those that RFC 9110 (9.2.2) calls idempotent, but for TRACE, which nobody sends. */
const idempotentMethods: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "QUERY"]);

/** Whether its body can be sent a second time. */
export function isReplayable({ body }: HttpRequest): boolean {
  if (body === undefined || body === null || typeof body === "string") return true;
  return ArrayBuffer.isView(body) || (body as unknown) instanceof ArrayBuffer || (body as unknown) instanceof Blob;
}

/** Whether it may be done twice, and can be: what the caller says, else what its method says. */
export function isRepeatable(request: HttpRequest): boolean {
  const idempotent = request.idempotent ?? idempotentMethods.has(request.method);
  return idempotent && !request.upgrade && isReplayable(request);
}
