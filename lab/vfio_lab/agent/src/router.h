/* The resident process. */
#ifndef ROUTER_H
#define ROUTER_H

/* Serve requests from `incoming`, answer on `outgoing`, until the host hangs up. */
int router_serve(int incoming, int outgoing);

#endif
