/**
 * What stands behind a dispatcher: one pool, or one for each origin.
 */

import type { ReadyOptions } from "../../pool/index.ts";
import type { HasProcess } from "../../process/index.ts";
import type { RoutingPool } from "../../routing/index.ts";
import type { HttpConnection } from "./connection.ts";
import type { Exchange } from "./exchange.ts";

export interface Routes extends HasProcess {
  /** Those there are now, by origin. */
  readonly pools: ReadonlyMap<string, RoutingPool<HttpConnection>>;
  /** Gives it to a pool. */
  route(exchange: Exchange): void;
  ready(options: ReadyOptions | undefined): Promise<void>;
  close(): Promise<void>;
  destroy(reason: Error): Promise<void>;
}
