/* reuseport-cid: a datagram goes to the socket that its connection id names, whatever its client's address and port. What names no live
 * socket goes by its hash to one of the sockets that take new flows.
 *
 * The ids are made as the draft "QUIC-LB: Generating Routable QUIC Connection IDs" (draft-ietf-quic-load-balancers) makes them in plain
 * text; src/ipc/connection_id.rs has the layout. They are not secret: whoever sends one chooses the socket. */
#include "reuseport.h"

/* The program sees a datagram from its UDP header on (linux/bpf.h, sk_reuseport_md), which has 8 bytes; a request's nonce has 4. */
#define ID_AT (8 + 4)
/* The first byte of a server's id: configuration 0, and 7 more bytes. A client's own has configuration 7, which is not routable. */
#define ROUTABLE 7

struct connection_id {
	__u8 form;
	__u8 socket[2];
	__u8 nonce[5];
};

/* The sockets that take new flows: their first place among the members, shifted by 32, and their number. A reload changes both at once. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} takers SEC(".maps");

SEC("sk_reuseport")
int pick(struct sk_reuseport_md *ctx)
{
	struct connection_id id;
	__u32 zero = 0;
	__u64 *range;

	if (!bpf_skb_load_bytes(ctx, ID_AT, &id, sizeof(id)) && id.form == ROUTABLE) {
		__u32 named = id.socket[0] << 8 | id.socket[1];

		/* Fails where the map has no socket: its worker has gone, or never was. */
		if (take_queue(ctx, named))
			return SK_PASS;
	}
	range = bpf_map_lookup_elem(&takers, &zero);
	if (!range)
		return SK_PASS;
	/* As the kernel scales the hash itself (reuseport_select_sock_by_hash): without a reload, the same socket. */
	return pick_queue(ctx, (*range >> 32) + ((__u64)ctx->hash * (__u32)*range >> 32));
}
