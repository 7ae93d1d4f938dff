package registry

import (
	"context"

	registryv1 "github.com/sluicelog/sluice/gen/sluice/registry/v1"
	"github.com/sluicelog/sluice/registry/ledger"
)

// GetConfig returns a config.
func (s *service) GetConfig(
	ctx context.Context, q *registryv1.GetConfigRequest,
) (*registryv1.GetConfigResponse, error) {
	return read(ctx, s, q.GetMinRevision(),
		func(*ledger.State) (*registryv1.GetConfigResponse, error) {
			c, err := s.r.configOf(ledger.Qualify(q.GetSubject()), q.GetDefaultToGlobal())
			return &registryv1.GetConfigResponse{Config: configMessage(c)}, err
		})
}

// UpdateConfig sets a config.
func (s *service) UpdateConfig(
	ctx context.Context, q *registryv1.UpdateConfigRequest,
) (*registryv1.UpdateConfigResponse, error) {
	w, err := s.r.setConfig(ctx, q.GetSubject(), configOf(q.GetConfig()))
	return wrote(ctx, s, w, err,
		func(c ledger.Config, at int64) *registryv1.UpdateConfigResponse {
			return &registryv1.UpdateConfigResponse{Config: configMessage(c), Revision: at}
		})
}

// DeleteConfig deletes a config.
func (s *service) DeleteConfig(
	ctx context.Context, q *registryv1.DeleteConfigRequest,
) (*registryv1.DeleteConfigResponse, error) {
	w, err := s.r.deleteConfig(ctx, q.GetSubject())
	return wrote(ctx, s, w, err,
		func(c ledger.Config, at int64) *registryv1.DeleteConfigResponse {
			return &registryv1.DeleteConfigResponse{Config: configMessage(c), Revision: at}
		})
}

// GetMode returns a mode.
func (s *service) GetMode(
	ctx context.Context, q *registryv1.GetModeRequest,
) (*registryv1.GetModeResponse, error) {
	return read(ctx, s, q.GetMinRevision(),
		func(*ledger.State) (*registryv1.GetModeResponse, error) {
			m, err := s.r.modeOf(ledger.Qualify(q.GetSubject()), q.GetDefaultToGlobal())
			return &registryv1.GetModeResponse{Mode: modeMessage(m)}, err
		})
}

// UpdateMode sets a mode.
func (s *service) UpdateMode(
	ctx context.Context, q *registryv1.UpdateModeRequest,
) (*registryv1.UpdateModeResponse, error) {
	w, err := s.r.setMode(ctx, q.GetSubject(), modeOf(q.GetMode()), q.GetForce())
	return wrote(ctx, s, w, err,
		func(m ledger.Mode, at int64) *registryv1.UpdateModeResponse {
			return &registryv1.UpdateModeResponse{Mode: modeMessage(m), Revision: at}
		})
}

// DeleteMode deletes a mode.
func (s *service) DeleteMode(
	ctx context.Context, q *registryv1.DeleteModeRequest,
) (*registryv1.DeleteModeResponse, error) {
	w, err := s.r.deleteMode(ctx, q.GetSubject(), q.GetRecursive())
	return wrote(ctx, s, w, err,
		func(m ledger.Mode, at int64) *registryv1.DeleteModeResponse {
			return &registryv1.DeleteModeResponse{Mode: modeMessage(m), Revision: at}
		})
}
