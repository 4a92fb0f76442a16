// Package knsq makes NSQ a transport of Kratos: a Server whose handlers are called with messages as those of HTTP and
// gRPC are with requests, and a Broker that publishes. It never drops a message silently, it never lets one bad message
// slow the others, and nothing in it grows without a bound.
//
// A service registers functions, and Kratos' own middlewares run around them:
//
//	srv := knsq.NewServer(
//		knsq.Address("127.0.0.1:4150"),
//		knsq.Middleware(recovery.Recovery(), tracing.Server(), metrics.Server(), logging.Server(logger)),
//	)
//	knsq.RegisterSubscriber(srv, "events", "points", func(ctx context.Context, e *Event) error { … })
//	app := kratos.New(kratos.Server(srv, httpSrv))
//
// # Delivery
//
// NSQ delivers at least once and in no order: a handler must bear a message twice. A message is finished when its handler
// returns nil. After an error it comes again after an exponential Backoff, and alone: the others keep their pace. After
// MaxAttempts deliveries, at once after an error made by Permanent, and at once where it can't be decoded, it is a dead
// letter: it goes to a topic of its own, or to the function given to DeadLetter, and only then is it finished. nsqd
// counts deliveries, so those that a time-out or a restart cut short count as well.
//
// nsqd gives a message that is not answered within its timeout (MsgTimeout) to somebody else. A handler's context ends
// after three quarters of that, or after the Timeout of the server. One that takes longer than expected can call Touch
// on its message (MessageFromContext).
//
// # Messages
//
// A message is a JSON object with the business fields at the top level. NSQ has no headers: what middlewares put into
// the header (the trace, Kratos' metadata) is the object's member "trace", one string or list of strings for each name:
//
//	{"v":1,"order":"…","trace":{"traceparent":"00-…","x-md-global-user":"u1"}}
//
// The Broker adds that member to objects that have none, and changes nothing else. A message without it, or that was not
// made here, is as good. Bodies are read and written by Kratos' JSON codec, so protobuf messages work; []byte and
// json.RawMessage stand for the body as it is.
//
// # Shutdown
//
// Kratos stops all servers of an app at the same time, each within kratos.StopTimeout. Stop takes no more messages, puts
// back those that no handler has begun, lets the others finish, waits until nsqd has their answers, and then calls the
// functions given to AfterStop. When the context given to Stop ends first, so do the handlers' contexts, and nsqd
// delivers again what they had. What handlers use is best closed after App.Run has returned, where all servers share
// it, or by AfterStop where only handlers do.
package knsq
