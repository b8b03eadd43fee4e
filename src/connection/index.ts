export { Connection, type ConnectionHost, type ConnectionPlace, type ConnectionState } from "./connection.ts";
export {
  type Connector,
  checkConnector,
  checkEndpoints,
  endpointsCheck,
  type Endpoint,
  type EndpointSource,
  type OpenContext,
} from "./connector.ts";
export { type Memory, newMemory, succeeding } from "./machine.ts";
