/**
 * A key and a certificate for `api.test` and `localhost`, signed by itself, good until 2126. For tests on loopback: the
 * key is no secret, and proves nothing.
 */
export const key = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgZD2xipVHjFdZ7ScP
uwg/3TZ6SCc/oEbzE97ijryhzJWhRANCAAQ2OUhr9pl9d5UDIp2tysTX4Y9bUJXl
zOZy9YprJLevWAe/Zg/u5FKwt+/XsyS7ljrF2ONkxXC++41pKBzlSTNK
-----END PRIVATE KEY-----
`;

export const certificate = `-----BEGIN CERTIFICATE-----
MIIBnjCCAUOgAwIBAgIUTp/pJLNmq+jpQxpnzUQMs9JuaEgwCgYIKoZIzj0EAwIw
EzERMA8GA1UEAwwIYXBpLnRlc3QwIBcNMjYxMTI1MDAyMDM3WhgPMjEyNjExMDEw
MDIwMzdaMBMxETAPBgNVBAMMCGFwaS50ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAENjlIa/aZfXeVAyKdrcrE1+GPW1CV5czmcvWKayS3r1gHv2YP7uRSsLfv
17Mku5Y6xdjjZMVwvvuNaSgc5UkzSqNzMHEwHQYDVR0OBBYEFPwHsuBRXoQwqLT+
lk5lpvL1LakVMB8GA1UdIwQYMBaAFPwHsuBRXoQwqLT+lk5lpvL1LakVMA8GA1Ud
EwEB/wQFMAMBAf8wHgYDVR0RBBcwFYIIYXBpLnRlc3SCCWxvY2FsaG9zdDAKBggq
hkjOPQQDAgNJADBGAiEAsXnw3pbGdJmlez675ebylaQdTu3c/2vfqp5wBBVbvnkC
IQDMrS3badn2AZMHHRDru9PkCDRd8viXFrScGa4qC4GXVA==
-----END CERTIFICATE-----
`;
