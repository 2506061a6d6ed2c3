/* Writes the names of the features of FEATURES that this CPU lacks. */
#include "check.h"
#include "cpu.h"

int main(void)
{
    static const edgepack_feature features[] = {FEATURES};
    char missing[EDGEPACK_TEXT], why[EDGEPACK_TEXT] = "";
    edgepack_model *model = NULL;
    const bool all = cpu_has(features, missing, sizeof missing);
    printf("%s\n", missing);
    const edgepack_status status = edgepack_open(&made, NULL, 1, &model, why);
    CHECK(status == (all ? EDGEPACK_OK : EDGEPACK_CPU));
    CHECK(all || (strstr(why, missing) != NULL && model == NULL));
    edgepack_close(model);
    return 0;
}
