package cap

import (
	"unicode"
	"unicode/utf8"

	"github.com/prebid/openrtb/v20/openrtb2"
)

// idBytesMax is what freqcap takes for an id.
const idBytesMax = 256

// keysMax is what freqcap takes beside an ad's own key.
const keysMax = 16

const advertiserLevel = "adomain:"

// userOf is the user's id: that of the first of the places which has one, or "". Prebid Server has taken ids away already where the
// account's privacy settings forbid this hook the activity transmitUfpd.
func userOf(request *openrtb2.BidRequest, places []string) string {
	for _, place := range places {
		if id := at(request, place); isID(id) {
			return id
		}
	}
	return ""
}

func at(request *openrtb2.BidRequest, place string) string {
	switch {
	case place == "device.ifa":
		if request.Device != nil {
			return request.Device.IFA
		}
	case request.User == nil:
	case place == "user.id":
		return request.User.ID
	default:
		source, _ := eidSource(place)
		for _, eid := range request.User.EIDs {
			if eid.Source == source && len(eid.UIDs) > 0 {
				return eid.UIDs[0].ID
			}
		}
	}
	return ""
}

// isID says whether freqcap takes a text as an id.
func isID(id string) bool {
	if id == "" || len(id) > idBytesMax || id == "*" || !utf8.ValidString(id) {
		return false
	}
	for _, one := range id {
		if unicode.IsControl(one) {
			return false
		}
	}
	return true
}

// candidate is an ad as freqcap knows it.
type candidate struct {
	DA   string   `json:"da"`
	Keys []string `json:"keys"`
}

// candidateOf names a bid's creative (seat:crid) and what else caps it. A bid without a creative id is judged by nothing that would be
// the same in the next auction: false.
func candidateOf(seat string, bid *openrtb2.Bid) (candidate, bool) {
	creative := bid.CrID
	if creative == "" {
		creative = bid.AdID
	}
	ad := candidate{DA: seat + ":" + creative, Keys: []string{}}
	if creative == "" || !isID(ad.DA) {
		return ad, false
	}
	seen := map[string]bool{}
	add := func(level, id string) {
		key := level + id
		if isID(id) && isID(key) && !seen[key] && len(ad.Keys) < keysMax {
			seen[key] = true
			ad.Keys = append(ad.Keys, key)
		}
	}
	add("campaign:", bid.CID)
	add("deal:", bid.DealID)
	for _, domain := range bid.ADomain {
		add(advertiserLevel, domain)
	}
	return ad, true
}
