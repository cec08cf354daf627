// Package cap is the module freqcap.cap of Prebid Server: it keeps advertisers, campaigns, deals and creatives that freqcap has capped
// for a user out of the auction, and has the impressions of the others counted.
package cap

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/prebid/openrtb/v20/openrtb2"
	"github.com/prebid/prebid-server/v4/exchange/entities"
	"github.com/prebid/prebid-server/v4/hooks/hookanalytics"
	"github.com/prebid/prebid-server/v4/hooks/hookstage"
	"github.com/prebid/prebid-server/v4/modules/moduledeps"
	"github.com/prebid/prebid-server/v4/openrtb_ext"
	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"
)

// auctionKey is where the module context has what is known of an auction.
const auctionKey = "auction"

const activity = "enforce-cap"

// Module has hooks of four stages.
type Module struct {
	config  *config
	service *service
}

// auction is what the module knows of one auction. The request's id and the user are known before it is shared; advertisers and failed
// are once `asked` is closed.
type auction struct {
	request string
	user    string

	asked       chan struct{}
	advertisers []string
	failed      error
}

var (
	_ hookstage.ProcessedAuctionRequest  = (*Module)(nil)
	_ hookstage.BidderRequest            = (*Module)(nil)
	_ hookstage.AllProcessedBidResponses = (*Module)(nil)
	_ hookstage.AuctionResponse          = (*Module)(nil)
)

// Builder makes the module of its settings.
func Builder(text json.RawMessage, _ moduledeps.ModuleDeps) (interface{}, error) {
	config, err := readConfig(text)
	if err != nil {
		return nil, err
	}
	return &Module{config, newService(config)}, nil
}

// HandleProcessedAuctionHook begins to ask which advertisers are capped; nothing waits for it here. A request without a user has no
// caps.
func (m *Module) HandleProcessedAuctionHook(
	_ context.Context, _ hookstage.ModuleInvocationContext, payload hookstage.ProcessedAuctionRequestPayload,
) (hookstage.HookResult[hookstage.ProcessedAuctionRequestPayload], error) {
	var result hookstage.HookResult[hookstage.ProcessedAuctionRequestPayload]
	if payload.Request == nil || payload.Request.BidRequest == nil {
		return result, nil
	}
	// User and device may have been written to the wrapper only.
	request := payload.Request.BidRequest
	user := userOf(request, m.config.User)
	if user == "" {
		result.DebugMessages = []string{"freqcap: the request has no user"}
		return result, nil
	}
	known := &auction{request: request.ID, user: user, asked: make(chan struct{})}
	go func() {
		defer close(known.asked)
		// Not the hook's context, which ends with the hook; the call has a timeout of its own.
		known.advertisers, known.failed = m.service.cappedAdvertisers(context.Background(), user)
	}()
	result.ModuleContext = hookstage.NewModuleContext()
	result.ModuleContext.Set(auctionKey, known)
	return result, nil
}

// HandleBidderRequestHook adds the capped advertisers to `badv`, so that bidders need not bid in vain.
func (m *Module) HandleBidderRequestHook(
	ctx context.Context, invocation hookstage.ModuleInvocationContext, payload hookstage.BidderRequestPayload,
) (hookstage.HookResult[hookstage.BidderRequestPayload], error) {
	var result hookstage.HookResult[hookstage.BidderRequestPayload]
	known := auctionOf(invocation)
	if known == nil || payload.Request == nil || payload.Request.BidRequest == nil {
		return result, nil
	}
	select {
	case <-known.asked:
	case <-ctx.Done():
		return result, nil
	}
	if known.failed != nil {
		result.Warnings = []string{"freqcap: capped advertisers are not known: " + known.failed.Error()}
		return result, nil
	}
	before := payload.Request.BidRequest.BAdv
	blocked := map[string]bool{}
	for _, domain := range before {
		blocked[domain] = true
	}
	all := append([]string(nil), before...)
	for _, domain := range known.advertisers {
		if !blocked[domain] {
			all = append(all, domain)
		}
	}
	if len(all) > len(before) {
		result.ChangeSet.BidderRequest().BAdv().Update(all)
	}
	return result, nil
}

// HandleAllProcessedBidResponsesHook asks about every bid in one call, and drops those that are capped.
func (m *Module) HandleAllProcessedBidResponsesHook(
	ctx context.Context, invocation hookstage.ModuleInvocationContext, payload hookstage.AllProcessedBidResponsesPayload,
) (hookstage.HookResult[hookstage.AllProcessedBidResponsesPayload], error) {
	var result hookstage.HookResult[hookstage.AllProcessedBidResponsesPayload]
	known := auctionOf(invocation)
	if known == nil {
		return result, nil
	}
	bids, candidates := judged(payload.Responses)
	if len(bids) == 0 {
		return result, nil
	}
	verdicts, err := m.service.check(ctx, known.user, candidates)
	if err != nil {
		result.Warnings = []string{"freqcap: bids are not checked: " + err.Error()}
		failed := hookanalytics.Activity{Name: activity, Status: hookanalytics.ActivityStatusError}
		if m.config.Fail == "closed" {
			drop(&result, bids)
			failed.Results = []hookanalytics.Result{tag(hookanalytics.ResultStatusBlock, bids, nil)}
		}
		result.AnalyticsTags.Activities = []hookanalytics.Activity{failed}
		return result, nil
	}
	var capped, allowed []seatBid
	done := hookanalytics.Activity{Name: activity, Status: hookanalytics.ActivityStatusSuccess}
	for i, one := range bids {
		if verdicts[i].Capped {
			capped = append(capped, one)
			done.Results = append(done.Results, tag(hookanalytics.ResultStatusBlock, []seatBid{one}, &verdicts[i]))
		} else {
			allowed = append(allowed, one)
		}
	}
	if len(allowed) > 0 {
		done.Results = append(done.Results, tag(hookanalytics.ResultStatusAllow, allowed, nil))
	}
	result.AnalyticsTags.Activities = []hookanalytics.Activity{done}
	drop(&result, capped)
	return result, nil
}

// HandleAuctionResponseHook has each bid's impression counted: by `ext.prebid.events.imp`, which the page fetches, and by `burl`. Both
// name one impression, so it counts once. What is there already stays.
func (m *Module) HandleAuctionResponseHook(
	_ context.Context, invocation hookstage.ModuleInvocationContext, payload hookstage.AuctionResponsePayload,
) (hookstage.HookResult[hookstage.AuctionResponsePayload], error) {
	var result hookstage.HookResult[hookstage.AuctionResponsePayload]
	known := auctionOf(invocation)
	if known == nil || m.config.Pixel == nil || payload.BidResponse == nil {
		return result, nil
	}
	now := time.Now()
	result.ChangeSet.AddMutation(func(payload hookstage.AuctionResponsePayload) (hookstage.AuctionResponsePayload, error) {
		for s := range payload.BidResponse.SeatBid {
			seat := &payload.BidResponse.SeatBid[s]
			for b := range seat.Bid {
				if err := m.addPixel(known, seat.Seat, &seat.Bid[b], now); err != nil {
					return payload, err
				}
			}
		}
		return payload, nil
	}, hookstage.MutationUpdate, "bidresponse", "seatbid")
	return result, nil
}

func (m *Module) addPixel(known *auction, seat string, bid *openrtb2.Bid, now time.Time) error {
	ad, ok := candidateOf(seat, bid)
	if !ok {
		return nil
	}
	address := m.config.Pixel.url(known.user, ad, impressionID(known.request, seat, bid.ID, bid.ImpID), now)
	if bid.BURL == "" {
		bid.BURL = address + "&f=b"
	}
	const place = "prebid.events.imp"
	if gjson.GetBytes(bid.Ext, place).String() != "" {
		return nil
	}
	ext := bid.Ext
	if len(ext) == 0 {
		ext = json.RawMessage("{}")
	}
	added, err := sjson.SetBytes(ext, place, address)
	if err != nil {
		return fmt.Errorf("freqcap: ext of bid %q: %w", bid.ID, err)
	}
	bid.Ext = added
	return nil
}

func auctionOf(invocation hookstage.ModuleInvocationContext) *auction {
	value, _ := invocation.ModuleContext.Get(auctionKey)
	known, _ := value.(*auction)
	return known
}

// seatBid is a bid and who made it.
type seatBid struct {
	bidder openrtb_ext.BidderName
	bid    *entities.PbsOrtbBid
}

// judged are the bids that freqcap can judge, and what they are called there. The bidder's name is the seat in the response, so they are
// counted as they were judged.
func judged(responses map[openrtb_ext.BidderName]*entities.PbsOrtbSeatBid) ([]seatBid, []candidate) {
	var bids []seatBid
	var candidates []candidate
	for bidder, response := range responses {
		if response == nil {
			continue
		}
		for _, one := range response.Bids {
			if one == nil || one.Bid == nil {
				continue
			}
			if ad, ok := candidateOf(bidder.String(), one.Bid); ok {
				bids = append(bids, seatBid{bidder, one})
				candidates = append(candidates, ad)
			}
		}
	}
	return bids, candidates
}

// drop takes bids out of the auction.
func drop(result *hookstage.HookResult[hookstage.AllProcessedBidResponsesPayload], bids []seatBid) {
	if len(bids) == 0 {
		return
	}
	dropped := map[*entities.PbsOrtbBid]bool{}
	for _, one := range bids {
		dropped[one.bid] = true
	}
	result.ChangeSet.AddMutation(func(payload hookstage.AllProcessedBidResponsesPayload) (hookstage.AllProcessedBidResponsesPayload, error) {
		for _, response := range payload.Responses {
			if response == nil {
				continue
			}
			var kept []*entities.PbsOrtbBid
			for _, one := range response.Bids {
				if !dropped[one] {
					kept = append(kept, one)
				}
			}
			response.Bids = kept
		}
		return payload, nil
	}, hookstage.MutationDelete, "processedBidderResponses", "bids")
}

// tag is what analytics adapters hear of some bids.
func tag(status hookanalytics.ResultStatus, bids []seatBid, why *verdict) hookanalytics.Result {
	made := hookanalytics.Result{Status: status}
	if len(bids) == 1 {
		made.AppliedTo.Bidder = bids[0].bidder.String()
	}
	for _, one := range bids {
		made.AppliedTo.BidIds = append(made.AppliedTo.BidIds, one.bid.Bid.ID)
		made.AppliedTo.ImpIds = append(made.AppliedTo.ImpIds, one.bid.Bid.ImpID)
	}
	if why != nil {
		made.Values = map[string]any{"da": why.DA, "key": why.Key, "rule": why.Rule}
		if why.CappedUntil != nil {
			made.Values["capped_until"] = *why.CappedUntil
		}
	}
	return made
}
