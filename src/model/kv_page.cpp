#include "model/kv_page.h"

namespace ds4 {

// A million tokens are a chain of four thousand pages, too long to be taken down by recursion.
KvPage::~KvPage() {
    std::shared_ptr<KvPage> page = std::move(previous);
    while (page != nullptr && page.use_count() == 1) {
        std::shared_ptr<KvPage> before = std::move(page->previous);
        page = std::move(before);
    }
}

}  // namespace ds4
