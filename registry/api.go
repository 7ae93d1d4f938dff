package registry

import (
	"context"

	"github.com/sluicelog/sluice/registry/ledger"
)

// written is what a write answers with, and the revision at which it is true.
type written[A any] struct {
	answer   A
	revision ledger.Revision
}

// change runs a decision of the ledger and writes what it wants.
func change[A any](
	ctx context.Context, r *Registry, alone bool,
	decide func(*ledger.State) (A, []ledger.Change, error),
) (written[A], error) {
	var last A
	at, err := r.store.write(ctx, alone, func(s *ledger.State) ([]ledger.Change, error) {
		answer, changes, err := decide(s)
		if err == nil {
			last = answer
		}
		return changes, err
	})
	if err != nil {
		return written[A]{}, err // after a time-out the owner may still set last
	}
	return written[A]{last, at}, nil
}

// register registers a schema, or with dry says what would be answered.
func (r *Registry) register(
	ctx context.Context, request ledger.Registration, dry bool,
) (written[ledger.Answer], error) {
	request.Lax = r.config.LaxSchemas
	decide := func(s *ledger.State) (ledger.Answer, []ledger.Change, error) {
		aliased := request
		aliased.Subject = s.Alias(request.Subject)
		return s.Register(r.parser, aliased)
	}
	if dry {
		answer, _, err := decide(r.store.current())
		return written[ledger.Answer]{answer, r.store.position()}, err
	}
	return change(ctx, r, false, decide)
}

// lookup finds a schema in a subject.
func (r *Registry) lookup(request ledger.Registration, deleted bool) (ledger.Answer, error) {
	s := r.store.current()
	request.Subject = s.Alias(request.Subject)
	return s.Lookup(r.parser, request, deleted)
}

// check compares a schema with a version, or with 0 with the history.
func (r *Registry) check(
	request ledger.Registration, version ledger.Version,
) ([]string, error) {
	s := r.store.current()
	request.Lax = r.config.LaxSchemas
	request.Subject = s.Alias(request.Subject)
	return s.Check(r.parser, request, version)
}

func (r *Registry) deleteVersion(
	ctx context.Context, subject string, version ledger.Version, asked string, permanent bool,
) (written[ledger.Version], error) {
	return change(ctx, r, false,
		func(s *ledger.State) (ledger.Version, []ledger.Change, error) {
			return s.DeleteVersion(subject, version, asked, permanent)
		})
}

func (r *Registry) deleteSubject(
	ctx context.Context, subject string, permanent bool,
) (written[[]ledger.Version], error) {
	return change(ctx, r, false,
		func(s *ledger.State) ([]ledger.Version, []ledger.Change, error) {
			return s.DeleteSubject(subject, permanent)
		})
}

func (r *Registry) deleteContext(ctx context.Context, name string) (written[struct{}], error) {
	return change(ctx, r, false,
		func(s *ledger.State) (none struct{}, changes []ledger.Change, err error) {
			changes, err = s.DeleteContext(name)
			return none, changes, err
		})
}

func (r *Registry) setConfig(
	ctx context.Context, subject string, update ledger.Config,
) (written[ledger.Config], error) {
	return change(ctx, r, false,
		func(s *ledger.State) (ledger.Config, []ledger.Change, error) {
			return s.SetConfig(subject, update)
		})
}

func (r *Registry) deleteConfig(
	ctx context.Context, subject string,
) (written[ledger.Config], error) {
	return change(ctx, r, false,
		func(s *ledger.State) (ledger.Config, []ledger.Change, error) {
			return s.DeleteConfig(subject)
		})
}

func (r *Registry) setMode(
	ctx context.Context, subject, mode string, force bool,
) (written[ledger.Mode], error) {
	return change(ctx, r, true, func(s *ledger.State) (ledger.Mode, []ledger.Change, error) {
		return s.SetMode(subject, mode, force)
	})
}

func (r *Registry) deleteMode(
	ctx context.Context, subject string, recursive bool,
) (written[ledger.Mode], error) {
	return change(ctx, r, true, func(s *ledger.State) (ledger.Mode, []ledger.Change, error) {
		return s.DeleteMode(subject, recursive)
	})
}
